"""The page of a check is whole in itself, says what was found, and lets nothing of the data out of its quotes."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import pytest

from luthier.core.types import Finding, Repair
from luthier.data.checking import Place
from luthier.data.cluster_map import HIDDEN, ClusterMap, Spot
from luthier.data.health import About, Diagnosis, Excerpt
from luthier.verdict.check_page import check_page, write_check_page
from luthier.verdict.cluster_picture import cluster_picture

CIRCLE = re.compile(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"( class="found")?[^>]*><title>([^<]*)</title>')
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
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
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


def cluster_map(sizes: list[int]) -> ClusterMap:
    """Regions of these sizes, all near one corner of the map; the row ids count up."""
    ids = iter(range(sum(sizes)))
    spots = [
        Spot(f"{HOSTILE} word{place}", 0.01 * place, 0.0, tuple(f"r{next(ids)}" for _ in range(size)), "r0", HOSTILE)
        for place, size in enumerate(sizes)
    ]
    return ClusterMap(tuple(spots), 0.5)


def test_the_map_has_a_circle_a_region_with_area_like_its_rows_and_none_overlaps():
    picture = cluster_picture(cluster_map([90, 40, 40, 10, 10, 10, 10, 10]), {f"r{n}" for n in range(45)})
    circles = [(float(x), float(y), float(r), found, title) for x, y, r, found, title in CIRCLE.findall(picture)]
    assert len(circles) == 8 and picture.count("<script") == 0
    for one, two in combinations(circles, 2):
        assert math.dist(one[:2], two[:2]) >= one[2] + two[2] - 0.5
    for x, y, radius, _, _ in circles:
        assert radius <= x <= 640 - radius and radius <= y <= 440 - radius
    assert (circles[0][2] / circles[1][2]) ** 2 == pytest.approx(90 / 40, rel=0.01)
    assert [bool(found) for *_, found, _ in circles] == [True] + [False] * 7
    assert "90 rows (40.9\u00a0%), 50.0\u00a0% with findings" in circles[0][4]
    assert "a sample of 220 training rows" in picture
    assert picture == cluster_picture(cluster_map([90, 40, 40, 10, 10, 10, 10, 10]), {f"r{n}" for n in range(45)})


def test_the_page_draws_the_map_and_shades_what_findings_above_a_hint_touch():
    drawn = replace(diagnosis(finding("r0", "r1"), finding("r2", severity="info")), cluster_map=cluster_map([2, 1]))
    text = check_page(drawn, "tickets.jsonl")
    assert [bool(found) for _, _, _, found, _ in CIRCLE.findall(text)] == [True, False]
    assert Tags(text).open == [] and "<h2>What is asked</h2>" in text and "The 2 regions as a table" in text
    assert "What is asked" not in check_page(diagnosis(finding("a")), "tickets.jsonl")
    hidden = cluster_map([2, 1]).without(["r0"])
    assert {spot.shown for spot in hidden.spots} == {HIDDEN}


def test_what_fix_would_do_is_told_by_kind():
    repairs = (Repair("a", "drop", True), Repair("b", "fix", True), Repair("a", "fix", True), Repair("c", "fix", False))
    text = check_page(diagnosis(replace(finding("a", "b", "c"), repairs=repairs)), "tickets.jsonl")
    assert "Of 10 rows --fix mends 1 and drops 1 by itself, and sets aside 1 that cannot be read." in text
    row = re.search(r"<td>copies: exact</td><td class=\"n\">([^<]*)</td><td class=\"n\">([^<]*)</td></tr>", text)
    assert row is not None and row.groups() == ("1 dropped, 2 fixed", "1 fixed")
    assert "would be mended" not in check_page(diagnosis(finding("a")), "tickets.jsonl")
