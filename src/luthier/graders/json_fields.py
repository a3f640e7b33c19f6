"""JSON answers, leaf by leaf: which fields are right, which are wrong, which are missing?

A leaf is a path and a scalar: `{"intent": "play", "slots": {"artist": "Abba"}}` has the leaves
`intent` and `slots.artist`. The elements of a list share one path, `tags[]`, so lists are
multisets. Text is compared without spaces at its ends, other scalars by type and value: 1 is 1.0,
but neither "1" nor true. The completion must be JSON as it stands: a code fence around it makes
it invalid, because it would break the program that reads it.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from luthier.core.counts import Counts
from luthier.core.types import Grade, JsonObject, JsonValue

Path = tuple[str, ...]
Leaf = tuple[Path, tuple[str, str | float | None]]

_ELEMENT = "[]"
# No program's format is nested so deep; below it every walk over the value is safe from the recursion limit.
MOST_DEPTH = 100


class InvalidJson(ValueError):
    """A text is not JSON as the standard (RFC 8259) has it."""


class Grader:
    """The F1 of the answer's leaves; 0 when it is not valid JSON, 1 when both sides have no leaf."""

    meaning = "F1 of the JSON fields of each answer, averaged over the answers"

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion; a wanted text that is not JSON itself can only be matched as a whole."""
        try:
            wanted = parsed(answer)
        except InvalidJson:
            return self._grade_plain(completion, answer)
        try:
            predicted = parsed(completion)
        except InvalidJson:
            counts = _counts_per_path(Counter(), Counter(_leaves(wanted)))
            return Grade(0.0, {"valid": False, "exact": False} | _marks(counts))
        left, right = Counter(_leaves(predicted)), Counter(_leaves(wanted))
        counts = _counts_per_path(left, right)
        total = _sum(counts.values())
        score = total.f1 if total.predicted + total.wanted else 1.0
        exact = _canonical(predicted) == _canonical(wanted)
        return Grade(score, {"valid": True, "exact": exact, "mistyped": _mistyped(left, right)} | _marks(counts))

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return validity, exactness, micro P/R/F1 over all leaves, the same per field and per nested key.

        `keys` holds the accuracy of the scalars at the top level, over the rows that have them on either side.
        Groups and keys that no answer wants are left out; what was made up costs precision in `fields`. `mistyped` counts
        the answers in which a field has values of another type than any that is wanted, such as "3" for 3.
        """
        fields, groups, keys = (_totals(grades, kind) for kind in ("fields", "groups", "keys"))
        total = _sum(fields.values())
        return {
            "json_valid": sum(bool(grade.marks["valid"]) for grade in grades) / len(grades),
            "exact": sum(bool(grade.marks["exact"]) for grade in grades) / len(grades),
            "precision": total.precision,
            "recall": total.recall,
            "f1": total.f1,
            "fields": {name: counts.as_metrics() for name, counts in sorted(fields.items())},
            "groups": {name: counts.as_metrics() for name, counts in sorted(groups.items()) if counts.wanted},
            "keys": {name: counts.hits / counts.wanted for name, counts in sorted(keys.items()) if fields[name].wanted},
            "mistyped": _times(grades, "mistyped"),
        }

    def _grade_plain(self, completion: str, answer: str) -> Grade:
        exact = completion.strip() == answer.strip()
        valid = True
        try:
            parsed(completion)
        except InvalidJson:
            valid = False
        return Grade(float(exact), {"valid": valid, "exact": exact} | _marks({("$",): Counts(int(exact), 1, 1)}))


def parsed(text: str) -> JsonValue:
    """Parse JSON strictly (no NaN, nothing around it, at most 100 levels); raise InvalidJson."""
    try:
        value: JsonValue = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidJson(str(error)) from error
    if text.count("[") + text.count("{") > MOST_DEPTH and _deeper_than(value, MOST_DEPTH):
        raise InvalidJson(f"nested more than {MOST_DEPTH} levels deep")
    return value


def _deeper_than(value: JsonValue, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _inside(outer)]
    return any(isinstance(inner, dict | list) for inner in level)


def _inside(value: JsonObject | list[JsonValue]) -> Iterable[JsonValue]:
    return value.values() if isinstance(value, dict) else value


def _refuse_constant(name: str) -> JsonValue:
    raise InvalidJson(f"{name} is not JSON")


def _leaves(value: JsonValue, path: Path = ()) -> Iterator[Leaf]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, (*path, _ELEMENT))
    else:
        yield path or ("$",), _scalar(value)


def _scalar(value: bool | int | float | str | None) -> tuple[str, str | float | None]:
    # The type stands beside the value because Python holds 1 and True equal.
    if value is None:
        return "null", None
    if isinstance(value, str):
        return "text", value.strip()
    if isinstance(value, bool):
        return "boolean", value
    return "number", int(value) if isinstance(value, float) and value.is_integer() else value


def _canonical(value: JsonValue) -> JsonValue:
    """Lists as multisets, text trimmed: two answers are exact when these are equal."""
    if isinstance(value, dict):
        return {key: _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return sorted((_canonical(inner) for inner in value), key=lambda inner: json.dumps(inner, sort_keys=True))
    return list(_scalar(value))


def _name(path: Path) -> str:
    return ".".join(path).replace(f".{_ELEMENT}", _ELEMENT)


def _counts_per_path(predicted: Counter[Leaf], wanted: Counter[Leaf]) -> dict[Path, Counts]:
    counts: dict[Path, Counts] = {}
    for leaf in predicted | wanted:
        path, _ = leaf
        one = Counts(min(predicted[leaf], wanted[leaf]), predicted[leaf], wanted[leaf])
        counts[path] = counts.get(path, Counts()).plus(one)
    return counts


def _marks(counts: dict[Path, Counts]) -> JsonObject:
    """Write the counts by field, by top-level key with something inside, and by top-level scalar."""
    fields: dict[str, Counts] = {}
    groups: dict[str, Counts] = {}
    keys: dict[str, Counts] = {}
    for path, count in counts.items():
        name = _name(path)
        fields[name] = fields.get(name, Counts()).plus(count)
        if len(path) > 1:
            groups[path[0]] = groups.get(path[0], Counts()).plus(count)
        else:
            either = 1 if count.predicted or count.wanted else 0
            keys[name] = Counts(count.hits, either, either)
    kinds = {"fields": fields, "groups": groups, "keys": keys}
    return {kind: {name: [*count] for name, count in of_kind.items()} for kind, of_kind in kinds.items()}


def _mistyped(predicted: Iterable[Leaf], wanted: Iterable[Leaf]) -> list[JsonValue]:
    """List the fields that are on both sides with no type in common."""
    types: list[dict[str, set[str]]] = [{}, {}]
    for of_side, leaves in zip(types, (predicted, wanted), strict=True):
        for path, (kind, _) in leaves:
            of_side.setdefault(_name(path), set()).add(kind)
    left, right = types
    return [name for name in sorted(left) if name in right and not left[name] & right[name]]


def _times(grades: Sequence[Grade], mark: str) -> JsonObject:
    """Count how often each name stands in a mark that lists names; answers without the mark list none."""
    times = Counter(str(name) for grade in grades if isinstance(names := grade.marks.get(mark), list) for name in names)
    return {name: times[name] for name in sorted(times)}


def _totals(grades: Sequence[Grade], kind: str) -> dict[str, Counts]:
    totals: dict[str, Counts] = {}
    for grade in grades:
        marks = grade.marks[kind]
        assert isinstance(marks, dict)
        for name, mark in marks.items():
            assert isinstance(mark, list)
            hits, predicted, wanted = (value for value in mark if isinstance(value, int))
            totals[name] = totals.get(name, Counts()).plus(Counts(hits, predicted, wanted))
    return totals


def _sum(counts: Iterable[Counts]) -> Counts:
    total = Counts()
    for count in counts:
        total = total.plus(count)
    return total
