"""Which rows a verdict rests on: a sealed test part, or all rows by cross-fitting."""

from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.conclude import arm_name
from luthier.verdict.figures import Scale, number, objects
from luthier.verdict.page import Line, paragraph, table


def tested_rows(verdict: JsonObject) -> int:
    """Return how many rows every arm answered."""
    folds = objects(verdict.get("cross_fit"))
    return int(number(folds, "rows") if folds else number(verdict["data"], "test"))


def tested_words(verdict: JsonObject) -> str:
    """Say who answered which rows, as the beginning of a paragraph."""
    folds = objects(verdict.get("cross_fit"))
    if not folds:
        return f"Every arm answered the same {tested_rows(verdict):,} sealed test rows."
    return (
        f"Every arm answered all {tested_rows(verdict):,} rows, in {number(folds, 'folds'):.0f} folds: what is trained or takes "
        "examples from rows was made anew for each fold, without it."
    )


def fold_by_fold(verdict: JsonObject, scale: Scale) -> str:
    """Return the scores of the arms in each fold as a table; nothing without folds."""
    folds = objects(verdict.get("cross_fit"))
    if not folds:
        return ""
    names = [f"fold {place}" for place in range(1, int(number(folds, "folds")) + 1)]
    lines = [
        Line([arm_name(arm), *(scale.score(float(str(score))) for score in _listed(scores))], ours=arm == "tuned")
        for arm, scores in objects(folds["scores"]).items()
    ]
    lines.append(Line(["training rows", *(f"{rows:,}" for rows in _listed(folds["trained_rows"]))]))
    words = (
        "Fold by fold. That models of other folds differ is part of every interval; the model that ships was trained on all rows, "
        "with the same recipe."
    )
    return paragraph(words) + table(["arm", *names], lines)


def seed_by_seed(verdict: JsonObject, scale: Scale) -> str:
    """Return the gain of the trained arm under each seed; nothing where one seed was trained."""
    seeds = objects(verdict.get("seeds"))
    if not seeds:
        return ""
    names = [f"seed {seed}" for seed in _listed(seeds["seeds"])]
    gains = [scale.gap(float(str(gain))) for gain in _listed(seeds["gains"])]
    label = f"{arm_name(str(seeds['arm']))} less {arm_name(str(seeds['against']))}"
    return table(["gain", *names], [Line([label, *gains])])


def _listed(value: JsonValue) -> list[JsonValue]:
    assert isinstance(value, list)
    return value
