"""The schema that JSON answers follow, inferred from them, and where they depart from it.

For each object in the answers, by its path: which keys it has, in which order, and of which type each value is. What
nearly all rows do is the schema; a few rows that do otherwise are deviations. Where rows differ freely (optional
fields, keys in the order of the text) there is no schema to depart from and nothing is said.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from luthier.core.types import JsonObject, JsonValue
from luthier.data.answers_kind import spelling_key
from luthier.data.deviations import Deviation

_FEWEST_OBJECTS = 10
_SCHEMA_SHARE = 0.9
_ALWAYS_SHARE = 0.98
_MOST_SEQUENCES = 5_000
_DEEPEST = 6
_MOST_NAMED = 4

Keys = tuple[str, ...]
Sequences = Mapping[Keys, array]


class ObjectShapes:
    """The shapes of all objects in the answers, by path; `$` is the answer itself."""

    def __init__(self) -> None:
        self._sequences: defaultdict[str, dict[Keys, array[int]]] = defaultdict(dict)
        self._types: defaultdict[str, defaultdict[str, array[int]]] = defaultdict(
            lambda: defaultdict(lambda: array("i"))
        )

    def add(self, position: int, value: JsonObject) -> None:
        """Count one answer."""
        self._add(position, value, "$", 0)

    def deviations(self) -> Iterator[Deviation]:
        """Yield what departs from the schema: key spellings, missing keys, key order, types."""
        for path, sequences in self._sequences.items():
            if sum(map(len, sequences.values())) >= _FEWEST_OBJECTS:
                usual_of = _misspelled(sequences)
                yield from _spellings(path, sequences, usual_of)
                renamed = _renamed(sequences, usual_of)
                yield from _missing(path, renamed)
                yield from _orders(path, renamed)
        yield from _types(self._types)

    def _add(self, position: int, value: JsonValue, path: str, depth: int) -> None:
        self._types[path][_type(value)].append(position)
        if depth == _DEEPEST:
            return
        if isinstance(value, dict):
            sequences = self._sequences[path]
            keys = tuple(value)
            if keys in sequences or len(sequences) < _MOST_SEQUENCES:
                sequences.setdefault(keys, array("i")).append(position)
            for key, inner in value.items():
                self._add(position, inner, f"{path}.{key}", depth + 1)
        elif isinstance(value, list):
            for inner in value:
                self._add(position, inner, f"{path}[]", depth + 1)


def _type(value: JsonValue) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "an object"


def _spellings(path: str, sequences: Sequences, usual_of: Mapping[str, str]) -> Iterator[Deviation]:
    for key, usual in usual_of.items():
        yield Deviation(
            "key-spelling", "warning", 0.9, sorted(row for keys, rows in sequences.items() if key in keys for row in rows),
            f"spelling the key {key!r} of {_of(path)} where most spell {usual!r}",
            f"Rename {key!r} to {usual!r}: a program that reads the answers looks for one name.",
        )  # fmt: skip


def _misspelled(sequences: Sequences) -> dict[str, str]:
    """Return the keys that most objects spell otherwise, with the usual spelling."""
    counts = _key_counts(sequences)
    by_spelling: defaultdict[str, list[str]] = defaultdict(list)
    for key in counts:
        by_spelling[spelling_key(key)].append(key)
    usual_of: dict[str, str] = {}
    for keys in by_spelling.values():
        # Two keys in one object are two fields, however alike their names are.
        if len(keys) > 1 and not any(len(set(keys) & set(sequence)) > 1 for sequence in sequences):
            usual = max(keys, key=lambda key: counts[key])
            usual_of.update({key: usual for key in keys if key != usual})
    return usual_of


def _renamed(sequences: Sequences, usual_of: Mapping[str, str]) -> Sequences:
    renamed: dict[Keys, array] = {}
    for keys, rows in sequences.items():
        usual = tuple(usual_of.get(key, key) for key in keys)
        renamed[usual] = renamed.get(usual, array("i")) + rows
    return renamed


def _missing(path: str, sequences: Sequences) -> Iterator[Deviation]:
    total = sum(map(len, sequences.values()))
    for key, count in _key_counts(sequences).items():
        if _ALWAYS_SHARE * total <= count < total:
            positions = [row for keys, rows in sequences.items() if key not in keys for row in rows]
            yield Deviation(
                "missing-key", "warning", 0.8, sorted(positions),
                f"lacking the key {key!r} that {count / total:.1%} of {_of(path)} have",
                f"Add {key!r}, with null where there is no value.",
            )  # fmt: skip


def _orders(path: str, sequences: Sequences) -> Iterator[Deviation]:
    place = _usual_places(sequences)
    odd = [keys for keys in sequences if list(keys) != sorted(keys, key=lambda key: place[key])]
    total, num_odd = sum(map(len, sequences.values())), sum(len(sequences[keys]) for keys in odd)
    if num_odd and num_odd <= (1 - _SCHEMA_SHARE) * total:
        usual = max(sequences, key=lambda keys: len(sequences[keys]))
        yield Deviation(
            "key-order", "warning", 0.9, sorted(row for keys in odd for row in sequences[keys]),
            f"having the keys of {_of(path)} in another order than the usual {', '.join(usual)}",
            "Put the keys in one order: what comes first is decided first, and the model learns one order more easily.",
        )  # fmt: skip


def _usual_places(sequences: Sequences) -> dict[str, float]:
    """Rank keys by the share of other keys that stand before them where both are present."""
    before: Counter[tuple[str, str]] = Counter()
    for keys, rows in sequences.items():
        for place, key in enumerate(keys):
            for later in keys[place + 1 :]:
                before[key, later] += len(rows)
    ranked = list(_key_counts(sequences))
    # Insertion by majority: cheap, and exact where a common order exists.
    order: list[str] = []
    for key in ranked:
        at = next((at for at, other in enumerate(order) if before[key, other] > before[other, key]), len(order))
        order.insert(at, key)
    return {key: float(place) for place, key in enumerate(order)}


def _types(types: Mapping[str, Mapping[str, array]]) -> Iterator[Deviation]:
    """Yield values of another type than usual; a list where several values are meant is a common habit, told once."""
    listed: dict[str, array] = {}
    for path, rows in types.items():
        told = {kind: found for kind, found in rows.items() if kind != "null"}
        total = sum(map(len, told.values()))
        usual = max(told, key=lambda kind: len(told[kind]), default="")
        if total < _FEWEST_OBJECTS or len(told[usual]) < _SCHEMA_SHARE * total:
            continue
        for kind in told.keys() - {usual}:
            if "a list" in (kind, usual):
                listed[path] = told[kind]
            else:
                yield Deviation(
                    "value-type", "warning", 0.85, sorted(set(told[kind])),
                    f"having {kind} at {_of(path)} where {len(told[usual]) / total:.1%} have {usual}",
                    f"Make it {usual} everywhere.",
                )  # fmt: skip
    if listed:
        named = ", ".join(_of(path) for path in list(listed)[:_MOST_NAMED]) + (
            " ..." if len(listed) > _MOST_NAMED else ""
        )
        yield Deviation(
            "value-or-list", "info", 0.5, sorted({row for found in listed.values() for row in found}),
            f"having a list where most have one value, or one value where most have a list, at {named}",
            "Nothing, if the program that reads the answers takes both; a list everywhere is easier to learn.",
        )  # fmt: skip


def _key_counts(sequences: Sequences) -> Counter[str]:
    counts: Counter[str] = Counter()
    for keys, rows in sequences.items():
        for key in keys:
            counts[key] += len(rows)
    return counts


def _of(path: str) -> str:
    return "the answer" if path == "$" else repr(path.removeprefix("$."))
