"""Probes of overfitting find what was put there, and nothing where there is nothing."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.data.cluster import link
from luthier.data.nearest import nearest_likeness
from luthier.verdict.answers import AnswerRow
from luthier.verdict.marked import marked
from luthier.verdict.overfit import SPAN_WORDS, memorized, near_and_far
from luthier.verdict.slices import slices
from luthier.verdict.stats import Sample

SECRET = "the spare key of the red bicycle lies under the third stone behind the workshop door in winter"
HOUSE = "thank you very much for writing to us and have a nice and sunny day with your new bicycle"


def row(place: int, completion: str, answer: str = "fine", asked: str = "where?") -> AnswerRow:
    messages = [{"role": "user", "content": asked}]
    return AnswerRow(f"id{place}", "t.jsonl", place + 1, messages, answer, completion, "stop", 0.0)


def test_a_long_run_of_one_training_answer_is_found_with_its_place() -> None:
    training = [f"Listen: {SECRET} , bye", *[f"{number}: {HOUSE}" for number in range(9)]]
    rows = [row(0, f"I say {SECRET} now"), row(1, HOUSE), row(2, "no"), row(3, f"what {HOUSE} what")]
    found = memorized(rows, training)
    assert found is not None
    assert (found["rows"], found["of"]) == (1, 3), "phrases of the house are no memory"
    assert found["example"] == {"row": "id0", "text": SECRET}
    assert found["longest_words"] == len(SECRET.split()) >= SPAN_WORDS


def test_what_was_asked_or_wanted_is_not_memorized() -> None:
    rows = [row(0, SECRET, answer=SECRET), row(1, SECRET, asked=f"repeat: {SECRET}")]
    assert memorized(rows, [SECRET])["rows"] == 0  # type: ignore[index]
    assert memorized([row(0, "billing")], ["billing"]) is None


def test_near_and_far_rows_are_scored_apart() -> None:
    likeness = np.linspace(0, 1, 40)
    scores = {"tuned": (likeness > 0.5).astype(float), "classical": np.tile([1.0, 0.0], 20)}
    found = near_and_far(scores, likeness, Sample(np.arange(40), 200, 0))
    assert found is not None
    near, far = (found[side]["arms"] for side in ("near", "far"))  # type: ignore[index,call-overload]
    assert (near["tuned"]["score"], far["tuned"]["score"]) == (1.0, 0.0)
    assert near["classical"]["score"] == far["classical"]["score"] == 0.5
    assert found["near"]["likeness"] > 0.7 > found["far"]["likeness"]  # type: ignore[index,operator,call-overload]
    assert near_and_far(scores, np.zeros(40), Sample(np.arange(40), 200, 0)) is None


def test_the_likeness_of_the_nearest_is_that_of_the_pair_search() -> None:
    known = ["where is my parcel now", "the invoice of march is wrong", "please cancel my order of yesterday"]
    asked = ["where is my parcel today", "the invoice of may is wrong", "zzz qqq xxx", known[2].upper()]
    found = nearest_likeness(asked, known)
    links = link([*known, *asked], 0.3)
    pairs = dict(zip(zip(links.left_P.tolist(), links.right_P.tolist()), links.likeness_P()))
    assert found[0] == pytest.approx(pairs[0, 3])
    assert found[1] == pytest.approx(pairs[1, 4])
    assert found[2] < 0.1 and found[3] == 1.0
    assert nearest_likeness([], known).shape == (0,) and nearest_likeness(asked, []).tolist() == [0.0] * 4


def test_slices_come_worst_first_and_name_what_they_are() -> None:
    labels = ["card", "loan", "card", "loan"] * 15
    rows = [row(place, "x", answer=label, asked="why " * (place + 1)) for place, label in enumerate(labels)]
    tuned = np.array([float(label == "card") for label in labels])
    found = slices(rows, {"tuned": tuned, "classical": np.ones(60)}, "tuned", Sample(np.arange(60), 100, 0))
    assert (found[0]["by"], found[0]["slice"], found[0]["score"]) == ("label", "loan", 0.0)
    assert found[0]["others"] == {"classical": 1.0}
    assert (found[-1]["slice"], found[-1]["score"]) == ("card", 1.0)
    assert {str(one["by"]) for one in found} == {"label", "length of the question"}
    assert sum(int(str(one["rows"])) for one in found if one["by"] == "length of the question") == 60


def test_rare_fields_and_clusters_are_slices_too() -> None:
    wanted = [json.dumps({"kind": "a", **({"slots": {"when": "now"}} if place < 6 else {})}) for place in range(80)]
    rows = [row(place, "x", answer=answer) for place, answer in enumerate(wanted)]
    clusters = np.concatenate([np.zeros(10), np.arange(1, 71)])
    found = slices(rows, {"tuned": np.ones(80)}, "tuned", Sample(clusters, 100, 0))
    named = {(str(one["by"]), str(one["slice"])): one["rows"] for one in found}
    assert named["rare field", "slots.when"] == 6 and ("rare field", "kind") not in named
    assert named["cluster", "with others"] == 10 and named["cluster", "alone"] == 70


def test_what_differs_is_marked_and_nothing_gets_out_of_the_escaping() -> None:
    assert marked("the red bike", "the blue bike") == "the <mark>red</mark> bike"
    assert marked("same", "same") == "same"
    assert marked("<b>x</b>", "") == "<mark>&lt;b&gt;x&lt;/b&gt;</mark>"
    assert "<mark>" not in marked("a " * 700, "b")


@given(st.text(), st.text())
def test_marks_change_no_text(text: str, other: str) -> None:
    from html import unescape

    said = re.sub("<del>.*?</del>", "", marked(text, other), flags=re.DOTALL)
    assert unescape(said.replace("<mark>", "").replace("</mark>", "")) == text
