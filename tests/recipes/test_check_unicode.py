"""Whatever is written in the rows: every check looks, the page and the JSON are whole, and mending loses nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import luthier

# Scripts, marks that join, marks that nobody sees, marks that turn the direction, halves of characters, private use, noncharacters.
ODD = "aé\u0301ßİıﬁÅ漢한ก\u0e33हि\u094dש\u05b4عﷺ🇩🇪👩\u200d👧\ufe0f\u200b\u00ad\u202e\u2066\u2028\x00\x07\x1b[m\ufeff\ufffd\ue000\ufdd0\U000e0067\ud800 \n\t\"'<&>{}\\"
TEXTS = st.text(max_size=30) | st.text(ODD, max_size=60)
GOOD = {"text": "what is the time?", "label": "noon"}


@pytest.fixture(autouse=True, scope="module")
def own_place() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setenv("LUTHIER_CACHE", folder)
        yield


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=8))
def test_any_text_is_looked_at_told_and_mended(pairs: list[tuple[str, str]]):
    rows = [GOOD, *({"text": asked, "label": said} for asked, said in pairs)]
    with TemporaryDirectory() as folder:
        out = Path(folder) / "clean.jsonl"
        seen = luthier.check(rows, input="text", output="label", fix=out, quiet=True)
        written = seen.written
        assert written is not None and seen.rows == written["read"] == len(rows)
        assert written["as_is"] + written["fixed"] + written["dropped"] + written["set_aside"] == len(rows)
        assert len(out.read_text(encoding="utf-8").splitlines()) >= written["as_is"] + written["fixed"] > 0
        told = json.loads(json.dumps(seen.as_json()))
        assert all(1 <= row["line"] <= len(rows) for finding in told["findings"] for row in finding["rows"])
        assert all(letter.isprintable() or letter == "\n" for letter in str(seen))
        page = seen.save_report(Path(folder) / "page.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>") and page.count("<p") >= page.count("</p>") and "<script" not in page
