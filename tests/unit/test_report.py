"""The verdict in words: the conclusion, the table on the screen, and the report that stands alone."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from verdicts import differences_between, right_and_wrong, summary

from luthier.config.settings import Settings
from luthier.core.types import JsonObject
from luthier.graders import accuracy, json_fields
from luthier.verdict.answers import AnswerRow, arm_summary
from luthier.verdict.calibration import calibration
from luthier.verdict.conclude import STARTER_CAUTION, Circumstances, conclude
from luthier.verdict.cost import Prices, cost_of_arm, earned_back
from luthier.verdict.curves import Point, axis_ends, loss_curves, loss_points
from luthier.verdict.figures import duration, memory, objects, scale_of
from luthier.verdict.overfit import near_and_far
from luthier.verdict.report import ReportInputs, write_report
from luthier.verdict.slices import slices
from luthier.verdict.stats import Sample
from luthier.verdict.table import terminal_table

EVIL = '<script>alert("x")</script> & <img src=http://evil.example/x.png>'
SHARES = scale_of("accuracy", lower_is_better=False)


def answers(grader: accuracy.Grader | json_fields.Grader, completions: list[str], wanted: list[str]) -> list[AnswerRow]:
    made = []
    for place, (completion, answer) in enumerate(zip(completions, wanted, strict=True)):
        grade = grader.grade("", completion, answer)
        messages = [{"role": "user", "content": f"question {place} {EVIL}"}]
        row = AnswerRow(
            f"id{place}", "t.jsonl", place + 1, messages, answer, completion, "stop", grade.score, grade.marks
        )
        made.append(row)
    return made


def verdict_of(arms: dict[str, list[AnswerRow]], grader: accuracy.Grader | json_fields.Grader, name: str) -> JsonObject:
    """Judge arms as the recipe does."""
    count = len(next(iter(arms.values())))
    clusters = np.arange(count)
    summaries = {arm: arm_summary(rows, grader, clusters, Settings()) for arm, rows in arms.items()}
    scores = {arm: np.array([row.score for row in rows]) for arm, rows in arms.items()}
    differences = differences_between(scores, 0.01)
    end = conclude(summaries, differences, Circumstances(scale_of(name, False), count, 0.01))
    return {
        "run": "2026-08-23-tickets-7f3a",
        "data": {"read": 110, "train": 60, "validation": 5, "test": 40, "dropped": {"no-answer": 3}, "truncated": 2},
        "grader": name,
        "arms": summaries,
        "differences": differences,
        "plan": {"seconds": 60.0, "memory_bytes": 2**30},
        "measured": {"seconds": 72.5, "memory_bytes": 2**29, "tokens_per_second": 5120.4},
        **end.as_entries(),
        **closer_look(arms, scores),
    }


def closer_look(arms: dict[str, list[AnswerRow]], scores: dict[str, np.ndarray]) -> JsonObject:
    """What the recipe adds from opening, probing and pricing, with hostile texts where texts go."""
    sample, count = Sample(np.arange(len(scores["tuned"])), 100, 0), len(scores["tuned"])
    remembered = {"rows": 1, "of": 3, "span_words": 12, "longest_words": 14, "example": {"row": "id1", "text": EVIL}}
    return {
        "margin": 0.01,
        "clusters": count,
        "looks": {"test": "ab", "count": 4},
        "declared": {"grader": "accuracy", "primary": "tuned", "against": [EVIL], "method": "paired", "margin": 0.01},
        "overfit": {
            "arm": "tuned",
            "memorized": remembered,
            "nearness": near_and_far(scores, np.linspace(0, 1, count), sample),
        },
        "slices": [*slices(arms["tuned"], scores, "tuned", sample)],
    }


@pytest.fixture
def labels() -> tuple[JsonObject, ReportInputs]:
    wanted = [EVIL if place % 4 == 0 else "card" for place in range(40)]
    arms = {
        "classical": answers(accuracy.Grader(), ["card"] * 40, wanted),
        "tuned": answers(accuracy.Grader(), wanted[:38] + [f"no {EVIL}"] * 2, wanted),
    }
    verdict = verdict_of(arms, accuracy.Grader(), "accuracy")
    prices = Prices(currency="EUR", per_hour=1.0)
    for arm in verdict["arms"].values():
        arm["seconds"], arm["tokens_in"] = 4.0, 100
        arm["cost"] = cost_of_arm(arm, 40, [0.1, 0.2], prices.of_arm("tuned"))
    verdict["arms"]["classical"]["cost"]["money_per_1000"] = 1.0
    verdict["costs"] = earned_back(verdict["arms"], "tuned", "classical", prices, 3600)
    metrics = [{"step": step, "loss": (4.0 / step).hex()} for step in range(1, 50)]
    metrics[20]["validation_loss"] = (0.5).hex()
    metrics[40]["validation_loss"] = (0.3).hex()
    on_training = {"score": 1.0, "interval": [0.98, 1.0], "rows": 200}
    extra = ReportInputs(
        arms, metrics, f"train:\n  lr: 0.1 # {EVIL}", "starter", EVIL, {"classical": EVIL}, on_training
    )
    return verdict, extra


def written(path: Path, verdict: JsonObject, extra: ReportInputs) -> str:
    write_report(path / "report.html", verdict, extra)
    return (path / "report.html").read_text(encoding="utf-8")


class Balance(HTMLParser):
    """Collects tags, and fails where one is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "br", "!doctype"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_whole_html_that_runs_and_fetches_nothing(
    tmp_path: Path, labels: tuple[JsonObject, ReportInputs]
) -> None:
    page = written(tmp_path, *labels)
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert not balance.seen & {"script", "img", "link", "iframe", "object", "form", "a"}
    assert not balance.attributes & {"src", "href", "onclick", "onload", "srcset"}
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    assert "url(" not in page
    assert "&lt;script&gt;" in page


def test_the_report_opens_with_the_answer(tmp_path: Path, labels: tuple[JsonObject, ReportInputs]) -> None:
    page = written(tmp_path, *labels)
    first = re.search(r"<h1>(.*?)</h1>", page)
    assert first and first[1].replace("\u00a0", " ") == labels[0]["because"]
    assert "tuned model beats the classical model" in first[1]


def test_the_report_shows_every_part(tmp_path: Path, labels: tuple[JsonObject, ReportInputs]) -> None:
    page = written(tmp_path, *labels).replace("\u00a0", " ")
    for words in (
        "95.0 %",  # the tuned arm's score
        "110 rows were read",
        "no-answer",
        "Label by label",
        "Most often confused",
        "won 10 rows, lost 2 and was even on 28",
        "1 min 00 s",  # predicted
        "1 min 12 s",  # measured
        "On 200 rows that it was trained on",
        "a gap of +5.0 points",
        "lr: 0.1",
        "looked at 4 times",
        "The longest, 14 words",
        "most like a training question",
        "label: card",
        "The training cost 1.00 EUR",
        "<mark>no &lt;script",
    ):
        assert words in page, words
    assert page.count('<div class="example">') == 10 + 2
    assert page.count("<polyline") == 2
    assert page.count('class="dot"') == 2


def test_wins_and_losses_stand_side_by_side_and_further_graders_and_confidence_have_their_place(
    tmp_path: Path, labels: tuple[JsonObject, ReportInputs]
) -> None:
    verdict, extra = labels
    plain = written(tmp_path, verdict, extra)
    assert plain.count('<dl class="beside">') == 10 + 2 and "Does it know" not in plain
    arms = objects(verdict["arms"])
    for arm in map(objects, arms.values()):
        ends: JsonObject = {"accuracy_interval": [0.7, 0.9], "kappa_interval": [0.5, 0.7]}
        arm["metrics"] = {**objects(arm["metrics"]), "agreement": {"rows": 50, "accuracy": 0.8, "kappa": 0.6, **ends}}
        arm["also"] = {"length:most=3": {"score": 0.123, "interval": [0, 1], "metrics": {}}}
    sure = [replace(row, confidence=0.5 + place / 100) for place, row in enumerate(extra.answers["tuned"])]
    page = written(tmp_path, verdict | {"calibration": calibration(sure)}, extra)
    assert page.count("12.3\u00a0%") + page.count("12.3 %") == 2 and ">length<" in page
    assert (
        page.count("agrees with people on 80.0\u00a0% of 50 labelled rows (70.0 to 90.0); Cohen&#x27;s kappa 0.60") == 1
    )
    assert "Does it know when it is right?" in page and page.count("<polyline") == 3
    shown = Console(width=200, record=True, file=StringIO())
    shown.print(terminal_table(verdict))
    assert "12.3 %" in shown.export_text()


def test_json_runs_show_their_fields_worst_first(tmp_path: Path) -> None:
    wanted = ['{"intent": "play", "slots": {"artist": "Abba"}}'] * 40
    half = ['{"intent": "play", "slots": {"artist": "Queen"}}'] * 20
    arms = {
        "zero_shot": answers(json_fields.Grader(), ["none"] * 40, wanted),
        "tuned": answers(json_fields.Grader(), wanted[:20] + half, wanted),
    }
    page = written(tmp_path, verdict_of(arms, json_fields.Grader(), "json_fields"), ReportInputs(arms))
    fields = page[page.index("Field by field") :]
    assert fields.index("slots.artist") < fields.index(">intent<")
    assert "slots F1" in page


def test_a_text_run_without_answers_has_a_report_too(tmp_path: Path) -> None:
    arms = {
        "zero_shot": {
            "score": 1.5,
            "interval": [1.4, 1.6],
            "metrics": {},
            "tokens_in": 0,
            "tokens_out": 0,
            "seconds": 1.0,
        },
        "tuned": {"score": 1.1, "interval": [1.0, 1.2], "metrics": {}, "tokens_in": 0, "tokens_out": 0, "seconds": 1.0},
    }
    differences = [{"a": "tuned", "b": "zero_shot", "value": -0.4, "interval": [-0.5, -0.3], "outcome": "better"}]
    scale = scale_of("bits_per_byte", lower_is_better=True)
    end = conclude(arms, differences, Circumstances(scale, 12, 0.01))
    assert end.outcome == "tuned wins"
    assert "1.100 against 1.500" in end.because
    data = {"read": 20, "train": 8, "validation": 0, "test": 12, "dropped": {}, "truncated": 0}
    verdict = {
        "run": "r", "data": data, "grader": "bits_per_byte", "lower_is_better": True, "arms": arms, "differences": differences,
        "plan": {}, "measured": {}, "outcome": end.outcome, "because": end.because,
    }  # fmt: skip
    assert "lower is better" in written(tmp_path, verdict, ReportInputs())
    assert "-0.400" in screen(verdict)


def screen(verdict: JsonObject) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_table(verdict))
    return console.export_text()


def test_the_screen_shows_arms_differences_and_the_sentence(labels: tuple[JsonObject, ReportInputs]) -> None:
    shown = screen(labels[0])
    for words in (
        "classical model",
        "75.0 %",
        "95.0 %",
        "macro-F1",
        "tuned model - classical model",
        "+20.0 points",
        "better",
    ):
        assert words in shown, words
    assert " ".join(str(labels[0]["because"]).split()) in " ".join(shown.split())


def test_the_starter_says_what_it_cannot_tell() -> None:
    scores = {"zero_shot": right_and_wrong(0.1, 90), "tuned": right_and_wrong(0.9, 90)}
    for arms, starter, said in ((("zero_shot", "tuned"), True, True), (("zero_shot", "tuned"), False, False)):
        kept = {arm: scores[arm] for arm in arms}
        about = Circumstances(SHARES, 90, 0.01, starter=starter)
        end = conclude({arm: summary(one) for arm, one in kept.items()}, differences_between(kept, 0.01), about)
        assert (STARTER_CAUTION in end.because) == said
    kept = {"classical": scores["zero_shot"], "tuned": scores["tuned"]}
    about = Circumstances(SHARES, 90, 0.01, starter=True)
    end = conclude({arm: summary(one) for arm, one in kept.items()}, differences_between(kept, 0.01), about)
    assert STARTER_CAUTION not in end.because


def test_one_arm_alone_is_measured_but_not_judged() -> None:
    about = Circumstances(SHARES, 90, 0.01)
    end = conclude({"tuned": summary(right_and_wrong(0.9, 90))}, [], about)
    assert end.outcome == "undecided"
    assert "nothing to compare it with" in end.because
    assert conclude({}, [], about).outcome == "undecided"


def test_curves_read_hex_floats_and_stay_inside_the_drawing() -> None:
    entries = [{"step": step, "loss": (9.0 / step).hex(), "tokens": 1} for step in range(1, 2000)]
    points = loss_points(entries, "loss")
    assert points[0] == Point(1, 9.0)
    assert loss_points(entries, "validation_loss") == []
    drawing = loss_curves(points, [Point(1000, 0.5)])
    places = [float(part) for pair in re.findall(r'points="([^"]+)"', drawing) for part in re.split("[ ,]", pair)]
    assert 100 < len(places) <= 480
    assert all(0 <= place <= 100 for place in places)
    assert loss_curves([], []) == ""
    assert "<svg" in loss_curves([Point(1, 0.0), Point(2, 0.0)], [])


@pytest.mark.parametrize(
    "intervals", [[(0.0, 0.0)], [(1.0, 1.0)], [(0.13, 0.97), (0.2, 0.3)], [(-0.4, 1.7)], [(1e-9, 2e-9)]]
)
def test_axes_hold_every_interval(intervals: list[tuple[float, float]]) -> None:
    low, high = axis_ends(intervals)
    assert all(low <= left and right <= high + 1e-12 for left, right in intervals)


def test_figures_read_well() -> None:
    assert [duration(seconds) for seconds in (0.0412, 3.14, 59.6, 245, 4321)] == [
        "0.041 s", "3.1 s", "1 min 00 s", "4 min 05 s", "1 h 12 min",
    ]  # fmt: skip
    assert [memory(size) for size in (2**29, 1.5 * 2**30)] == ["512 MiB", "1.5 GiB"]
    assert SHARES.interval((0.901, 0.9249)) == "90.1 to 92.5 %"
