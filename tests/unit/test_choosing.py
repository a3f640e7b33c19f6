"""Choosing keeps to its budget, asks no candidate the same row twice, and finds the better way of asking."""

from arm_material import question
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.recipes.choosing import choose, validation_order
from luthier.verdict.asking import AS_THE_ROWS_STAND, Candidate

ROWS = [question(f"question {n}", f"answer {n}") for n in range(100)]


def candidates(count: int) -> list[Candidate]:
    return [Candidate(f"way {n}", AS_THE_ROWS_STAND.ask) for n in range(count)]


def test_the_best_is_chosen_and_all_that_was_tried_is_recorded():
    skill = [0.25, 0.75, 0.5]
    choice = choose(candidates(3), ROWS, 120, lambda place, asked: [skill[place]] * len(asked))
    entry = choice.as_entry(candidates(3), 120)
    assert entry["chosen"] == "way 1" and entry["calls"] <= 120 and entry["budget"] == 120
    assert [one["score"] for one in entry["candidates"]] == skill  # type: ignore[index, union-attr]
    assert choice.rows[1] == max(choice.rows) > min(choice.rows)
    assert "validation rows" in choice.because


def test_among_equals_the_first_is_taken():
    assert choose(candidates(4), ROWS, 200, lambda place, asked: [0.5] * len(asked)).chosen == 0


def test_without_validation_rows_the_first_is_taken_and_that_is_said():
    choice = choose(candidates(3), [], 200, lambda place, asked: [1.0] * len(asked))
    assert (choice.chosen, choice.calls) == (0, 0)
    assert "no validation row" in choice.because
    assert "only way" in choose(candidates(1), ROWS, 200, lambda place, asked: []).because
    assert "does not reach" in choose(candidates(3), ROWS, 2, lambda place, asked: []).because


@given(st.integers(2, 20), st.integers(0, 100), st.integers(0, 500))
@settings(max_examples=80, deadline=None)
def test_the_budget_holds_and_no_row_is_asked_twice(count: int, rows: int, calls: int):
    seen: dict[int, list[str]] = {}

    def scores(place, asked):
        seen.setdefault(place, []).extend(one.text for one in asked)
        return [place / count] * len(asked)

    choice = choose(candidates(count), ROWS[:rows], calls, scores)
    used = sum(map(len, seen.values()))
    assert used == choice.calls == sum(choice.rows) <= calls
    assert all(len(asked) == len(set(asked)) for asked in seen.values())
    if choice.calls:
        assert choice.chosen == count - 1


def test_all_arms_share_the_rows_that_they_choose_on():
    assert validation_order(ROWS, 10, 3) == validation_order(ROWS, 10, 3) != validation_order(ROWS, 10, 4)
    assert len(validation_order(ROWS, 10, 3)) == 10
