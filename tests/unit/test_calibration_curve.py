"""Calibration of confidence: the groups, the error and the drawing, and that a model's own probabilities are what they say."""

import numpy as np
import pytest

from luthier.verdict.answers import AnswerRow
from luthier.verdict.calibration import FEWEST, calibration
from luthier.verdict.calibration_page import calibration_section


def rows(confidences: list[float | None], right: list[bool]) -> list[AnswerRow]:
    return [
        AnswerRow(f"r{n}", "a.jsonl", n, [], "x", "x", "stop", float(ok), confidence=sure)
        for n, (sure, ok) in enumerate(zip(confidences, right, strict=True))
    ]


def test_groups_are_of_like_size_from_least_to_most_sure() -> None:
    sure = [n / 100 for n in range(100)]
    found = calibration(rows([*sure], [one >= 0.5 for one in sure]))
    assert found is not None
    groups = found["groups"]
    assert isinstance(groups, list)
    assert [group["rows"] for group in groups] == [10] * 10  # type: ignore[index,call-overload]
    assert [group["right"] for group in groups] == [0] * 5 + [1] * 5  # type: ignore[index,call-overload]
    assert [group["confidence"] for group in groups] == pytest.approx([0.045 + n / 10 for n in range(10)])  # type: ignore[index,call-overload]
    assert found["right_among_surest"] == {"quarter": 1, "half": 1, "three_quarters": pytest.approx(2 / 3), "all": 0.5}
    away = [abs(0.045 + n / 10 - (n >= 5)) for n in range(10)]
    assert found["error"] == pytest.approx(np.mean(away))


def test_an_honest_model_has_little_error_and_a_boaster_much() -> None:
    rng = np.random.default_rng(3)
    sure = rng.random(4000)
    right = (rng.random(4000) < sure).tolist()
    honest, boaster = (calibration(rows(one.tolist(), right)) for one in (sure, sure**0.2))
    assert honest is not None and boaster is not None
    assert float(str(honest["error"])) < 0.03 < 0.2 < float(str(boaster["error"]))


def test_few_rows_and_unknown_probabilities_have_no_curve() -> None:
    assert calibration(rows([0.5] * (FEWEST - 1), [True] * (FEWEST - 1))) is None
    assert calibration(rows([0.5] * 50 + [None], [True] * 51)) is None
    assert calibration([]) is None
    assert calibration_section(None) == ""


def test_the_drawing_says_its_figures_in_words() -> None:
    drawn = calibration_section(calibration(rows([n / 100 for n in range(100)], [n >= 50 for n in range(100)])))
    assert "Does it know when it is right?" in drawn
    assert "surest of is right in 100.0\u00a0%" in drawn and "all of them in 50.0\u00a0%" in drawn
    assert drawn.count("<circle") == 10 and "10 answers: 4.5 % sure, 0.0 % right" in drawn
