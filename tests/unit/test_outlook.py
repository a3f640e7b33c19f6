"""What is said before tuning follows from the untuned arms and the learning curve, case by case."""

import pytest

from luthier.data.learning_curve import Curve
from luthier.verdict.figures import scale_of
from luthier.verdict.outlook import labels_of, outlook

STEEP = Curve([100, 200, 400, 800], [0.5, 0.65, 0.75, 0.83])
FLAT = Curve([100, 200, 400, 800], [0.60, 0.60, 0.61, 0.61])
SCALE = scale_of("accuracy", lower_is_better=False)


def arm(score: float, half: float = 0.02) -> dict:
    return {"score": score, "interval": [score - half, score + half]}


@pytest.mark.parametrize(
    ("arms", "curve", "prospect", "words"),
    [
        ({"classical": arm(0.8), "prompt": arm(0.995)}, STEEP, "nothing to gain", "prompted model leaves nothing to gain: 99.5 %"),
        ({"classical": arm(0.9), "zero_shot": arm(0.1), "prompt": arm(0.5)}, FLAT, "tuning may pay", "The rows teach what no prompt"),
        ({"classical": arm(0.6), "prompt": arm(0.61)}, STEEP, "tuning may pay", "twice as many would give about 88"),
        ({"classical": arm(0.6), "prompt": arm(0.9)}, FLAT, "tuning may not pay", "Nothing shows"),
        ({"classical": arm(0.6), "prompt": arm(0.9)}, None, "tuning may not pay", "a quick model cannot tell"),
        ({"classical": arm(0.6), "prompt": arm(0.61)}, None, "cannot tell", "equally well"),
        ({"prompt": arm(0.61)}, STEEP, "cannot tell", "needs the arm classical"),
        ({"classical": arm(0.6), "endpoint": arm(0.7)}, STEEP, "cannot tell", "one that prompts"),
    ],
)  # fmt: skip
def test_the_outlook(arms: dict, curve: Curve | None, prospect: str, words: str):
    found = outlook(arms, curve, SCALE, 0.01)
    assert found.prospect == prospect and words in found.because
    assert found.as_entries()["next"]


def test_a_quick_model_learns_labels_or_a_field_of_json_that_holds_some():
    assert labels_of(["tea", "coffee"] * 9) == (["tea", "coffee"] * 9, "")
    answers = [
        f'{{"slots": {{"n": {n}}}, "note": "note {n}", "intent": "{("play", "stop")[n % 2]}"}}' for n in range(40)
    ]
    found = labels_of(answers)
    assert found is not None and found.field == "intent" and set(found.labels) == {'"play"', '"stop"'}
    assert labels_of([f"prose number {n}" for n in range(40)]) is None
    words = outlook({"classical": arm(0.6), "prompt": arm(0.61)}, STEEP, SCALE, 0.01, "intent").because
    assert "right on the field intent in 83" in words
