"""The tables of docs/experiments/clean-data.md, made from bench/results/clean-data.json; see bench/clean_data.py."""

from statistics import mean

from pages import table, with_block

from luthier.core.types import JsonObject

# The sets of training rows, and what they are.
ARMS = {
    "dirty": "5,000 rows, 1,000 labels wrong",
    "cleaned": "all proposed labels accepted",
    "reviewed": "doubted rows put right",
    "dropped": "doubted rows dropped",
    "oracle": "5,000 rows as published",
    "few": "500 rows as published",
}


def with_tables(page: str, found: JsonObject) -> str:
    """Return the page with its tables made from the result."""
    for name, block in {
        "cleaning": cleaning(found["draws"]),
        "classical": one_draw(found["draws"]["0"]["classical"]),
        "draws": all_draws(found["draws"]),
        "tuned": one_draw(found["draws"]["0"]["tuned"]),
    }.items():
        page = with_block(page, name, block)
    return page


def cleaning(draws: JsonObject) -> str:
    """Say for each draw how many labels were proposed and how many of them were wrong."""
    rows = [["draw", "wrong labels", "labels proposed", "for a wrong label (precision)", "recall", "the right label"]]
    for draw, one in draws.items():
        told = one["cleaning"]
        hits = f"{told['found']:,} ({told['precision']:.2f})"
        rows.append(
            [draw, f"{told['wrong']:,}", f"{told['proposed']:,}", hits, f"{told['recall']:.2f}", f"{told['mended']:,}"]
        )
    return table(rows)


def one_draw(found: JsonObject) -> str:
    """Say how a model fared on the rows of one draw, with intervals over the test questions."""
    if not found["arms"]:
        return "Not measured yet."
    arms = [["trained on", "training rows", "wrong labels before the split", "accuracy (95 % interval)"]]
    for arm, one in found["arms"].items():
        accuracy = f"{100 * one['accuracy']:.1f} % {_ends(one['interval'])}"
        arms.append([f"`{arm}`: {ARMS[arm]}", f"{one['train_rows']:,}", f"{one['wrong_labels']:,}", accuracy])
    differences = [["difference", "in points (95 % interval)", ""]]
    for one in found["differences"]:
        points = f"{100 * one['value']:+.1f} {_ends(one['interval'], '+')}"
        differences.append([f"`{one['a']}` less `{one['b']}`", points, one["outcome"]])
    return f"{table(arms)}\n\n{table(differences)}"


def all_draws(draws: JsonObject) -> str:
    """Say what the classical model gains over the dirty rows, draw by draw."""
    gains: dict[str, dict[str, float]] = {}
    for draw, one in draws.items():
        for difference in one["classical"]["differences"]:
            if difference["b"] == "dirty":
                gains.setdefault(difference["a"], {})[draw] = 100 * difference["value"]
    rows = [["points over `dirty`", *(f"draw {draw}" for draw in draws), "mean"]]
    for arm, gain in gains.items():
        rows.append([f"`{arm}`", *(f"{gain[draw]:+.1f}" for draw in draws), f"{mean(gain.values()):+.1f}"])
    return table(rows)


def _ends(ends: list[float], sign: str = "") -> str:
    low, high = (f"{100 * end:{sign}.1f}" for end in ends)
    return f"({low} to {high})"
