"""Grades on the screen: a table of scores, what stands out, and the worst rows with their places."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from luthier.core.types import JsonObject, JsonValue
from luthier.graders.making.describe import GraderHelp
from luthier.verdict.figures import agreement_words, ends, key_metrics, metric, metric_name, number, objects, scale_of

_MOST_METRICS = 6
_MOST_NOTES = 5
_LONGEST = 60
_BEFORE = 20


def scores(result: JsonObject) -> RenderableType:
    """Return the whole result of a grading, to be printed."""
    table = Table(title=Text(f"{result['answers']}: {result['rows']:,} answers"), title_justify="left")
    for heading, justify in (("grader", "left"), ("score", "right"), ("95 % interval", "right"), ("metrics", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # the words are those that rich knows
    for one in _objects(result["graders"]):
        scale = scale_of(str(one["grader"]), lower_is_better=False)
        cells = (str(one["grader"]), scale.score(number(one, "score")), scale.interval(ends(one)), _metrics(one))
        table.add_row(*map(Text, cells))
    lines = [line for one in _objects(result["graders"]) for line in (*_notes(one), *_worst(one))]
    return Group(table, *map(Text, lines))


def graders(helps: Sequence[GraderHelp]) -> RenderableType:
    """Return the list of graders, or all about one where only one is asked for."""
    if len(helps) == 1:
        return Group(*map(Text, _all_about(helps[0])))
    table = Table(box=None, header_style="bold")
    for heading in ("grader", "measures", "settings"):
        table.add_column(heading)
    for one in helps:
        table.add_row(*map(Text, (one.name, one.measures, ", ".join(setting.name for setting in one.settings))))
    return table


def _all_about(one: GraderHelp) -> Iterator[str]:
    yield one.name
    yield f"\n{one.about}\n\nScore: {one.score}"
    for setting in one.settings:
        default = "must be given" if setting.default is None else f"default {setting.default or 'none'}"
        yield f"\n  {setting.name} ({setting.values}; {default})\n    {setting.description}"


def _metrics(one: JsonObject) -> str:
    found = key_metrics(objects(one["metrics"]))
    shown = [(name, value) for name, value in found.items() if value != number(one, "score")]
    return ", ".join(f"{metric_name(name)} {metric(name, value)}" for name, value in shown[:_MOST_METRICS])


def _notes(one: JsonObject) -> Iterator[str]:
    """Say what stands out among the metrics that are more than one number."""
    metrics = objects(one["metrics"])
    if agreement := agreement_words(metrics):
        yield f"  {agreement}"
    for pair in _objects(metrics.get("confusions"))[:_MOST_NOTES]:
        yield f"  {pair['times']} times {pair['wanted']!r} was answered with {_cut(str(pair['predicted']))!r}"
    for name, times in list(objects(metrics.get("faults")).items())[:_MOST_NOTES]:
        yield f"  {times} times: {name if name.isprintable() else repr(name)}"
    for name, rule in objects(metrics.get("rules")).items():
        yield f"  rule {name}: broken {objects(rule)['broken']} of {objects(rule)['applied']} times"
    for name, habit in objects(metrics.get("farthest")).items():
        yield f"  {name}: {number(habit, 'answers'):.2f}, usually {number(habit, 'usual'):.2f}"


def _worst(one: JsonObject) -> Iterator[str]:
    rows = _objects(one["worst"])
    if rows:
        yield f"\nworst by {one['grader']}:"
    for row in rows:
        answered, wanted = str(row["completion"]), row["answer"]
        start = 0 if wanted is None else _first_difference(answered, str(wanted))
        behind = "" if wanted is None else f", wanted {_cut(str(wanted), start)!r}"
        yield f"  {row['place']}  {number(row, 'score'):.2f}  answered {_cut(answered, start)!r}{behind}"


def _objects(value: JsonValue) -> list[JsonObject]:
    return [inner for inner in value if isinstance(inner, dict)] if isinstance(value, list) else []


def _first_difference(left: str, right: str) -> int:
    shorter = min(len(left), len(right))
    return next((place for place in range(shorter) if left[place] != right[place]), shorter)


def _cut(text: str, place: int = 0) -> str:
    """Return a short piece of a text, from a little before a place."""
    start = max(0, place - _BEFORE) if len(text) > _LONGEST else 0
    end = start + _LONGEST
    return ("\u2026" if start else "") + text[start:end] + ("\u2026" if end < len(text) else "")
