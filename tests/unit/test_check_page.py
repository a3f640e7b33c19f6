"""The page of a check is whole in itself, says what was found, and lets nothing of the data out of its quotes."""

from html.parser import HTMLParser
from pathlib import Path

from luthier.core.types import Finding
from luthier.data.checking import Place
from luthier.data.health import About, Diagnosis, Excerpt
from luthier.verdict.check_page import check_page, write_check_page

HOSTILE = "<script>alert('x')</script>"


def diagnosis(*findings: Finding, lengths: tuple[int, ...] = (0, 0, 3, 7)) -> Diagnosis:
    ids = {id for finding in findings for id in finding.rows}
    return Diagnosis(
        10, 1, findings, {"copies": About("unique", "it is learned by heart", "other words")},
        {id: Place(id, f"{HOSTILE}.jsonl", 3) for id in ids},
        {("copies", id): Excerpt(f"{HOSTILE} trailing  ", f"clean{chr(0x202E)}") for id in ids}, lengths,
    )  # fmt: skip


def finding(*rows: str, severity: str = "warning") -> Finding:
    return Finding("copies", "exact", severity, 1.0, rows, f"{HOSTILE} twice", "Drop one.")  # type: ignore[arg-type]


class Tags(HTMLParser):
    """Collects what the page is made of and checks that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.all: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)
        if tag not in ("meta", "rect", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag


def test_the_page_is_well_formed_fetches_nothing_and_runs_nothing():
    tags = Tags(check_page(diagnosis(finding("a", "b"), finding("c", severity="info")), HOSTILE))
    assert tags.open == [] and not {"script", "link", "img", "iframe"} & set(tags.all)


def test_data_stand_escaped_and_what_cannot_be_seen_is_shown():
    text = check_page(diagnosis(finding("a")), HOSTILE)
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "clean&lt;U+202E&gt;" in text and "trailing\u00b7\u00b7" in text


def test_health_comes_first_with_its_limits_and_the_headline_says_what_is_below():
    text = check_page(diagnosis(finding("a", "b", "c")), "tickets.jsonl")
    assert "Not yet fit to train on: unique 70.0\u00a0%." in text
    assert text.index("<h2>Health</h2>") < text.index("worst first") and "limit 85.0\u00a0%" in text
    assert "No check looked at: valid" in text
    assert "Healthy" in check_page(diagnosis(finding("a")), "tickets.jsonl")
    assert "Nothing was found." in check_page(diagnosis(), "tickets.jsonl")


def test_the_histogram_has_a_bar_for_each_length():
    text = check_page(diagnosis(lengths=(0, 0, 3, 7)), "tickets.jsonl")
    assert text.count("<rect") == 2 and "4 to 7 characters: 7 rows" in text
    assert "<svg" not in check_page(diagnosis(lengths=()), "tickets.jsonl")


def test_the_file_appears_whole(tmp_path: Path):
    path = write_check_page(tmp_path / "new" / "page.html", diagnosis(finding("a")), "tickets.jsonl")
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
