"""What the tuning cost elsewhere, in sentences: for the reasons of a verdict and for its report."""

from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.figures import ends, number, objects
from luthier.verdict.page import paragraph


def forgotten(found: JsonValue) -> str:
    """Say that the tuned model forgot, with figures and what helps; nothing where it did not, or nothing was measured."""
    general = objects(found)
    parts = [
        words
        for key, words in (("loss", _loss(general)), ("right", _right(general)))
        if objects(general.get(key)).get("outcome") == "worse"
    ]
    if not parts:
        return ""
    share = number(general, "replay")
    help = (
        "train.replay=0.2 mixes general rows into every step"
        if not share
        else f"{100 * share:.0f} % of every step were general rows already (train.replay)"
    )
    return f"The tuning made the model forget: {'; '.join(parts)}. Where that matters: {help}."


def forgetting_words(found: JsonValue) -> str:
    """Return the paragraph of the report on general rows; nothing where they were not measured."""
    general = objects(found)
    if not general:
        return ""
    measured = [_loss(general), *([_right(general)] if general["right"] else [])]
    share = number(general, "replay")
    replayed = f" {100 * share:.0f} % of every training step were other general rows." if share else ""
    return paragraph(f"On general rows that nothing trained ({general['source']}): {'; '.join(measured)}.{replayed}")


def _loss(general: JsonObject) -> str:
    loss = objects(general.get("loss"))
    if not loss:
        return ""
    low, high = ends(loss)
    return (
        f"{number(loss, 'before'):.3f} bits per byte before and {number(loss, 'after'):.3f} after on {number(general, 'rows'):,.0f} rows "
        f"({number(loss, 'value'):+.3f}, 95 % interval {low:+.3f} to {high:+.3f}), where less is better"
    )


def _right(general: JsonObject) -> str:
    right = objects(general.get("right"))
    if not right:
        return ""
    low, high = ends(right)
    return (
        f"{100 * number(right, 'before'):.0f} % of {number(general, 'questions'):,.0f} questions right before and "
        f"{100 * number(right, 'after'):.0f} % after (95 % interval of the difference {100 * low:+.0f} to {100 * high:+.0f} points)"
    )
