"""The confusion matrix as a drawing: every count stands in its cell, and what does not fit is said."""

import re
import xml.etree.ElementTree as ET

import pytest
from sklearn.metrics import confusion_matrix

from luthier.graders.accuracy import Grader
from luthier.verdict.answers import AnswerRow
from luthier.verdict.confusion_picture import MOST_LABELS, confusion_picture


def answered(pairs: list[tuple[str, str]]) -> list[AnswerRow]:
    """Answers from (wanted, said) pairs."""
    grades = [Grader().grade("", said, wanted) for wanted, said in pairs]
    return [
        AnswerRow(str(place), "a", place, [], wanted, said, "stop", grade.score, grade.marks)
        for place, ((wanted, said), grade) in enumerate(zip(pairs, grades, strict=True))
    ]


def cells(picture: str) -> dict[tuple[str, str], tuple[int, str]]:
    """Read count and color of every cell back from the drawing."""
    drawing = ET.fromstring(re.search(r"<svg.*</svg>", picture, re.DOTALL).group())  # type: ignore[union-attr]
    found = {}
    for group in drawing.iter("g"):
        wanted, said = re.match(r"wanted (.*), said (.*): ", group.findtext("title") or "").groups()  # type: ignore[union-attr]
        color = re.search(r"var\(--(\w+)\)", group.find("rect").get("style")).group(1)  # type: ignore[union-attr]
        found[wanted, said] = int(group.findtext("text") or 0), color
    return found


def test_every_count_of_scikit_learns_matrix_stands_in_its_cell_and_errors_stand_out():
    pairs = [("a", "a")] * 5 + [("a", "b")] * 2 + [("b", "b")] * 3 + [("c", "a")] + [("c", "c")] * 4
    found = cells(confusion_picture(answered(pairs)))
    matrix = confusion_matrix([wanted for wanted, _ in pairs], [said for _, said in pairs], labels=["a", "b", "c"])
    for line, wanted in enumerate("abc"):
        for column, said in enumerate("abc"):
            assert found.get((wanted, said), (0, ""))[0] == matrix[line, column]
    assert {color for (wanted, said), (_, color) in found.items() if wanted == said} == {"quiet"}
    assert {color for (wanted, said), (_, color) in found.items() if wanted != said} == {"accent"}


def test_what_is_no_label_has_a_column_of_its_own():
    assert cells(confusion_picture(answered([("a", "moon"), ("a", ""), ("b", "b")])))["a", "no label"] == (2, "accent")


def test_of_many_labels_those_with_errors_are_drawn_and_the_others_are_counted():
    labels = [f"label {number:02d}" for number in range(30)]
    pairs = [(label, label) for label in labels] + [(labels[29], labels[28])] * 3 + [(labels[25], labels[0])]
    picture = confusion_picture(answered(pairs))
    found = cells(picture)
    assert found["label 29", "label 28"] == (3, "accent") and found["label 25", "label 00"] == (1, "accent")
    assert len({wanted for wanted, _ in found}) == MOST_LABELS
    assert f"the {MOST_LABELS} of 30 labels with the most errors" in picture
    assert sum(times for (wanted, _), (times, _) in found.items() if wanted == "label 29") == 4


@pytest.mark.parametrize("pairs", [[], [("a", "a"), ("a", "b")]])
def test_one_label_is_no_matrix(pairs: list[tuple[str, str]]):
    assert confusion_picture(answered(pairs)) == ""


def test_an_answer_cannot_break_out_of_the_drawing():
    evil = "<script>alert(1)</script>"
    picture = confusion_picture(answered([(evil, evil), ("b", evil)]))
    assert "<script" not in picture and (evil, evil) in cells(picture)
