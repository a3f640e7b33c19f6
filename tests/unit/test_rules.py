"""Every outcome of the verdict, on answers made for it: from right and wrong rows to the sentence."""

from collections.abc import Mapping

import numpy as np
import pytest
from verdicts import differences_between, right_and_wrong, summary

from luthier.verdict.conclude import Circumstances, Conclusion, conclude
from luthier.verdict.figures import scale_of
from luthier.verdict.rules import LADDER, Standing

ROWS = 1200
MARGIN = 0.02


def concluded(right: Mapping[str, float], rows: int = ROWS, **about: object) -> Conclusion:
    """Conclude from arms that answer these shares of the rows rightly; a better arm is right wherever a worse one is."""
    return of_scores({arm: right_and_wrong(share, rows) for arm, share in right.items()}, **about)


def of_scores(scores: Mapping[str, np.ndarray], **about: object) -> Conclusion:
    rows = len(next(iter(scores.values())))
    circumstances = Circumstances(scale_of("accuracy", False), rows, **{"margin": MARGIN, **about})  # type: ignore[arg-type]
    arms = {arm: summary(one) for arm, one in scores.items()}
    return conclude(arms, differences_between(scores, circumstances.margin), circumstances)


@pytest.mark.parametrize(
    ("right", "outcome", "words"),
    [
        ({"classical": 0.7, "zero_shot": 0.2, "prompt": 0.6, "tuned": 0.9}, "tuned wins", "beats the classical model"),
        ({"classical": 0.9, "zero_shot": 0.2, "tuned": 0.9}, "classical is enough", "is no better than the classical"),
        ({"classical": 0.9, "zero_shot": 0.2, "tuned": 0.8}, "classical is enough", "is worse than the classical"),
        ({"classical": 0.5, "prompt": 0.9, "tuned": 0.9}, "prompt is enough", "so use the prompt"),
        ({"classical": 0.5, "few_shot": 0.92, "tuned": 0.85}, "prompt is enough", "worse than the few-shot prompt"),
        ({"zero_shot": 0.9, "tuned": 0.9}, "tuning does not pay", "do not tune"),
        ({"prompt": 0.4, "retrieval": 0.95, "tuned": 0.5}, "use retrieval", "so use retrieval"),
        ({"prompt": 0.4, "retrieval": 0.7, "tuned": 0.6, "tuned_retrieval": 0.9}, "tune and retrieve", "beats the"),
        ({"prompt": 0.4, "tuned": 0.9, "tuned_retrieval": 0.905}, "tuned wins", "The tuned model beats the prompted"),
        ({"prompt": 0.4, "tuned": 0.8, "endpoint": 0.95}, "tuning does not pay", "worse than the endpoint"),
        ({"prompt": 0.4, "tuned": 0.95, "endpoint": 0.95}, "tuned wins", "the best of the untuned ones"),
        ({"tuned": 0.95, "endpoint": 0.95}, "tuned wins", "is not worse than the endpoint, and runs here"),
    ],
)  # fmt: skip
def test_the_outcome_and_its_sentence(right: dict[str, float], outcome: str, words: str) -> None:
    end = concluded(right)
    assert end.outcome == outcome
    assert words in end.because
    assert end.next


def test_within_the_margin_the_simpler_arm_wins() -> None:
    """A gain that is certain and smaller than what a difference is worth is not worth tuning for."""
    small = {"classical": 0.9, "tuned": 0.912}
    assert concluded(small).outcome == "classical is enough"
    assert "gains less than the margin of 2.0 points over" in concluded(small, rows=4000).because
    assert concluded(small, rows=4000, margin=0.005).outcome == "tuned wins"


def test_of_equal_untuned_arms_the_simplest_is_named() -> None:
    assert concluded({"classical": 0.9, "prompt": 0.91, "tuned": 0.905}).outcome == "classical is enough"
    assert concluded({"retrieval": 0.9, "prompt": 0.9, "tuned": 0.7}).outcome == "prompt is enough"


def test_where_a_prompt_is_already_perfect_tuning_is_not_advised() -> None:
    for rows in (20, 200, 2000):
        end = concluded({"classical": 0.6, "zero_shot": 0.3, "prompt": 1.0, "tuned": 1.0}, rows=rows)
        assert end.outcome == "prompt is enough", rows
    few = concluded({"prompt": 1.0, "tuned": 1.0}, rows=20)
    assert "has nothing left to gain over the prompted model" in few.because
    before = concluded({"zero_shot": 0.3, "prompt": 1.0}, rows=200)
    assert before.outcome == "prompt is enough" and "leaves nothing to gain" in before.because


def test_too_few_rows_are_undecided_and_say_how_many_more_would_decide() -> None:
    rng = np.random.default_rng(0)
    base = (rng.random(60) < 0.7).astype(float)
    other = base.copy()
    other[rng.choice(60, 14, replace=False)] = 1
    other[rng.choice(60, 8, replace=False)] = 0
    end = of_scores({"classical": base, "tuned": other})
    assert end.outcome == "undecided"
    assert "cannot tell the tuned model from the classical model" in end.because
    assert "more test rows would show" in end.because


def test_a_few_rows_that_happen_to_be_right_settle_nothing() -> None:
    for rows in (1, 5):
        end = concluded({"classical": 1.0, "tuned": 1.0}, rows=rows)
        assert end.outcome == "undecided" and "would show that they are equivalent in 80 %" in end.because
        assert concluded({"classical": 1.0}, rows=rows).outcome == "undecided"
    assert concluded({"classical": 1.0, "tuned": 1.0}, rows=6).outcome == "classical is enough"


def test_where_no_arm_does_the_task_the_verdict_says_so_and_asks_for_no_more_test_rows() -> None:
    rows = np.arange(300)
    hopeless = of_scores({"zero_shot": (rows < 9).astype(float), "tuned": ((rows > 3) & (rows < 14)).astype(float)})
    assert hopeless.outcome == "undecided" and "No arm does this task: none reaches 10.0 %" in hopeless.because
    assert "larger base model" in hopeless.next
    hopeful = of_scores({"zero_shot": (rows < 39).astype(float), "tuned": ((rows > 3) & (rows < 44)).astype(float)})
    assert "No arm does this task" not in hopeful.because and "more test rows" in hopeful.next
    classical = concluded({"classical": 0.04, "tuned": 0.0}, rows=300)
    assert classical.outcome == "classical is enough" and "No arm does this task" in classical.because


def test_what_the_correction_alone_keeps_open_needs_more_than_one_row() -> None:
    """Beside many arms a difference has to stand out further; the rows that are asked for know of it."""
    rng = np.random.default_rng(3)
    base = (rng.random(165) < 0.5).astype(float)
    tuned = base.copy()
    tuned[rng.choice(np.flatnonzero(base == 0), 6, replace=False)] = 1
    others = ("zero_shot", "prompt", "few_shot", "retrieval")
    alone = differences_between({"classical": base, "tuned": tuned}, 0.01)[0]
    assert alone["outcome"] == "better"
    beside = {"classical": base, "tuned": tuned, **{name: np.roll(base, place) for place, name in enumerate(others, 1)}}
    found = next(one for one in differences_between(beside, 0.01) if {one["a"], one["b"]} == {"classical", "tuned"})
    assert found["outcome"] == "not worse" and found["more_rows"] > 20


def test_at_the_edge_no_share_of_cases_is_promised() -> None:
    arms = {name: summary(right_and_wrong(share, 165)) for name, share in {"classical": 0.6, "tuned": 0.5}.items()}
    edge = {
        "a": "tuned",
        "b": "classical",
        "value": -0.019,
        "interval": [-0.033, 0.0],
        "outcome": "undecided",
        "p": 0.06,
    }
    about = Circumstances(scale_of("accuracy", False), 165, margin=0.01)
    words = [conclude(arms, [{**edge, "aim": "a difference", "more_rows": more}], about).because for more in (1, 80)]
    assert "edge" in words[0] and "Bring clearly more than 1." in words[0] and "80 %" not in words[0]
    assert "80 more test rows would show which is better in 80 % of cases" in words[1]


def test_doubted_answers_take_the_place_of_more_rows() -> None:
    rng = np.random.default_rng(1)
    scores = {arm: (rng.random(80) < 0.75).astype(float) for arm in ("classical", "tuned")}
    assert of_scores(scores).outcome == "undecided"
    noisy = of_scores(scores, doubted=0.2, most_doubted=0.1)
    assert noisy.outcome == "too noisy" and "doubt the answers of 20.0 %" in noisy.because
    assert "luthier check" in noisy.next
    clear = concluded({"classical": 0.5, "tuned": 0.9}, doubted=0.2, most_doubted=0.1)
    assert clear.outcome == "tuned wins" and any("doubt" in reason for reason in clear.reasons)


def test_a_test_that_was_trained_on_claims_nothing() -> None:
    end = concluded({"classical": 0.5, "tuned": 1.0}, unsealed="3 of the 9 test rows were trained on.")
    assert end.outcome == "refused"
    assert end.because == "Nothing can be claimed: 3 of the 9 test rows were trained on."


def test_the_reasons_tell_of_every_other_arm_and_of_many_looks() -> None:
    end = concluded({"classical": 0.7, "zero_shot": 0.2, "prompt": 0.6, "tuned": 0.9}, looks=4)
    assert any("better than the prompted model (+30.0 points" in reason for reason in end.reasons)
    assert any("looked at 4 times" in reason for reason in end.reasons)
    assert any("another seed" in reason for reason in end.reasons)


def test_lower_is_better_turns_every_comparison() -> None:
    rng = np.random.default_rng(2)
    scores = {"zero_shot": 1.5 + 0.1 * rng.random(200), "tuned": 1.1 + 0.1 * rng.random(200)}
    arms = {arm: summary(one) for arm, one in scores.items()}
    differences = differences_between(scores, 0.01, lower_is_better=True)
    end = conclude(arms, differences, Circumstances(scale_of("bits_per_byte", True), 200, 0.01))
    assert end.outcome == "tuned wins"
    assert "(-0.4" in end.because
    standing = Standing(arms, differences, 0.01, lower_is_better=True)
    assert standing.gain("tuned", "zero_shot").value == pytest.approx(-standing.gain("zero_shot", "tuned").value)


def test_the_order_in_which_arms_are_listed_changes_nothing() -> None:
    right = {"classical": 0.7, "zero_shot": 0.2, "prompt": 0.88, "tuned": 0.89, "tuned_retrieval": 0.9, "endpoint": 0.9}
    backwards = dict(reversed(right.items()))
    assert concluded(right).because == concluded(backwards).because
    assert set(right) <= set(LADDER)


def test_an_arm_of_ones_own_counts_as_untuned() -> None:
    end = concluded({"mine.py:Arm": 0.9, "tuned": 0.7})
    assert end.outcome == "tuning does not pay" and "mine.py:Arm" in end.because
