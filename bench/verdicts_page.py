"""The sections of docs/experiments/verdicts.md, made from the verdicts of the runs; see bench/verdicts.py."""

from luthier.core.types import JsonObject
from luthier.verdict.figures import ARM_NAMES, duration, ends, metric, metric_name, objects, scale_of

_MOST_METRICS = 4


def section(verdict: JsonObject | None) -> str:
    """Return one task: the command, what became of the rows, the arms, and what the verdict says."""
    if verdict is None:
        return "Not run yet."
    data = objects(verdict["data"])
    measured = objects(verdict["measured"])
    tested = f"{data['test']:,} test rows" if data["test"] else "every row answered by cross-fitting"
    rows = f"{data['train']:,} training and {data['validation']:,} validation rows, {tested}; trained in {duration(float(str(measured['seconds'])))}."
    said = [f"> {verdict[key]}" for key in ("because", "next") if verdict.get(key)]
    parts = [f"    {verdict['command']}", rows, _arms(verdict), _held(verdict), "\n>\n".join(said)]
    return "\n\n".join(part for part in parts if part)


def _held(verdict: JsonObject) -> str:
    """Tell what holding the answers to a form did; empty where they were not held."""
    constraint = objects(verdict.get("constraint"))
    if not constraint:
        return ""
    scale = scale_of(str(verdict["grader"]), bool(verdict.get("lower_is_better")))
    found = []
    for name, arm in objects(constraint["arms"]).items():
        held, free = (objects(objects(arm)[side]) for side in ("held", "free"))
        scores, valid = ([float(str(side[key])) for side in (held, free)] for key in ("score", "valid"))
        found.append(
            f"{ARM_NAMES.get(name, name)} {scale.score(scores[0])} and {100 * valid[0]:.0f} % valid, "
            f"freely {scale.score(scores[1])} and {100 * valid[1]:.0f} %"
        )
    told = f"What holding the answers to {constraint['held_to']} does, on {constraint['rows']} validation rows answered both ways: "
    return f"{told}{'; '.join(found)}."


def _arms(verdict: JsonObject) -> str:
    scale = scale_of(str(verdict["grader"]), bool(verdict.get("lower_is_better")))
    arms = objects(verdict["arms"])
    metrics: list[str] = []
    for arm in arms.values():
        metrics += [name for name in objects(objects(arm)["metrics"]) if name not in metrics]
    metrics = metrics[:_MOST_METRICS]
    lines = [
        "| arm | "
        + " | ".join([f"{scale.name} (95 % interval)", *map(metric_name, metrics), "tokens in", "time"])
        + " |",
        "|---" * (len(metrics) + 4) + "|",
    ]
    for name, arm in arms.items():
        one = objects(arm)
        known = objects(one["metrics"])
        cells = [ARM_NAMES.get(name, name), f"{scale.score(float(str(one['score'])))} ({scale.interval(ends(arm))})"]
        cells += [metric(shown, float(str(known[shown]))) if shown in known else "" for shown in metrics]
        cells += [f"{one['tokens_in']:,.0f}", duration(float(str(one["seconds"])))]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
