"""A folder of texts becomes chunks that say what they are about; what is no text is refused by its name."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.errors import DataError
from luthier.data.knowledge import Document, chunks, read_documents


def test_texts_are_read_in_order_and_hidden_files_passed_over(tmp_path: Path):
    (tmp_path / "b.md").write_text("# Two")
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo".encode())
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "c.rst").write_text("three")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "index").write_bytes(b"\0\1")
    read = read_documents(tmp_path)
    assert [Path(one.name).name for one in read] == ["a.txt", "b.md", "c.rst"]
    assert read[0].text == "one\ntwo"
    assert read_documents(tmp_path / "b.md")[0].text == "# Two"


@pytest.mark.parametrize(
    ("name", "data"),
    [("page.pdf", b"%PDF-1.7"), ("notes.txt", b"a\0b"), ("latin.md", b"caf\xe9"), ("table.csv", b"a,b")],
)
def test_what_is_no_plain_text_is_refused_by_name(tmp_path: Path, name: str, data: bytes):
    (tmp_path / "good.md").write_text("fine")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name}.*no plain text.*convert"):
        read_documents(tmp_path)


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="holds no text"):
        read_documents(tmp_path)
    with pytest.raises(DataError, match="no file or folder"):
        read_documents(tmp_path / "none")


def test_a_chunk_stands_under_its_headings():
    text = "Before.\n\n# Bikes\nAll bikes.\n\n## Tandem\n\nTwo seats.\n\n## Cargo\nBig box.\n\n# Prices\nCheap."
    assert list(chunks(Document("d", text))) == [
        "Before.", "Bikes\nAll bikes.", "Bikes > Tandem\nTwo seats.", "Bikes > Cargo\nBig box.", "Prices\nCheap.",
    ]  # fmt: skip


def test_short_paragraphs_share_a_chunk_and_long_ones_are_cut_between_sentences():
    assert list(chunks(Document("d", "One.\n\nTwo.\n\nThree."), longest=9)) == ["One.\nTwo.", "Three."]
    assert list(chunks(Document("d", "First one. Second one. Third."), longest=22)) == [
        "First one. Second one.",
        "Third.",
    ]


@given(st.text(alphabet="ab .\n#", max_size=200), st.integers(5, 40))
@settings(max_examples=80, deadline=None)
def test_no_letter_is_lost_and_no_chunk_is_too_long(text: str, longest: int):
    whole = "".join(chunks(Document("d", text), longest))
    body = [line for line in text.splitlines() if not line.strip().startswith("#")]
    assert whole.count("a") >= "".join(body).count("a")
    flat = text.replace("#", "")
    assert all(len(chunk) <= longest for chunk in chunks(Document("d", flat), longest))
