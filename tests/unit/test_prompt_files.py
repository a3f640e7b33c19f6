"""A file with a system prompt is read as text, and what is none is refused with a word about the file."""

from pathlib import Path

import pytest

from luthier.core.errors import DataError
from luthier.recipes.prompt_sources import read_prompt


def test_a_prompt_is_its_text_without_what_stands_around_it(tmp_path: Path) -> None:
    (tmp_path / "house.txt").write_bytes("\ufeff\n Be brief. \u00e9\n\n".encode())
    found = read_prompt(tmp_path / "house.txt")
    assert (found.name, found.text) == ("house.txt", "Be brief. \u00e9")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\x89PNG\r\n\x1a\n\xff\xfe", "is no UTF-8 text"), (b" \n", "is empty; write the system prompt"), (None, "there is no file")],
)  # fmt: skip
def test_what_is_no_prompt_is_refused_by_name(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "house.bin").write_bytes(content)
    with pytest.raises(DataError, match=rf"house\.bin.*{words}|{words}.*house\.bin"):
        read_prompt(tmp_path / "house.bin")
