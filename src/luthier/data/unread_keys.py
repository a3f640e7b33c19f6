"""Keys of a record that its format never asks for: a misspelled `weight` must not be lost without a word.

No format lists its keys. A record of each shape is read once more, with dicts that note what they are asked
for; what was neither looked up nor looked for is unread. Of the values that are kept whole (a tool's definition, a
column of the answer) nothing is said, only of the record itself and of its turns.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from difflib import get_close_matches
from itertools import chain

from luthier.core.types import Content, JsonObject, JsonValue, UnreadKey
from luthier.data.problems import RowProblem

_SPEAKERS = ("role", "from")
# Names that mean something in some formats, so that a row of another format that has one probably meant it.
_MEANT = ("system", "tools", "history")
_MOST_SHAPES = 10_000
_LIKENESS = 0.8


class UnreadKeys:
    """Tells the unread keys of records that one function reads; `known` names keys that are read elsewhere."""

    def __init__(self, read: Callable[[JsonObject], Content], known: Sequence[str] = ()) -> None:
        self._read, self._elsewhere = read, known
        self._by_shape: dict[Hashable, tuple[UnreadKey, ...]] = {}

    def of(self, record: JsonObject) -> tuple[UnreadKey, ...]:
        """Return the unread keys of a record that can be read; of shapes beyond ten thousand nothing is known."""
        shape = tuple((key, _shape(value)) for key, value in record.items())
        if shape not in self._by_shape:
            self._by_shape[shape] = self._unread(record) if len(self._by_shape) < _MOST_SHAPES else ()
        return self._by_shape[shape]

    def _unread(self, record: JsonObject) -> tuple[UnreadKey, ...]:
        asked = _Asked(record)
        try:
            self._read(asked)
        except RowProblem:  # a value of this row is wrong, not its shape
            return ()
        asked.names.update(self._elsewhere)
        turns = [turn for turn in asked.inner() if turn.names.intersection(_SPEAKERS)]
        of_turns = chain.from_iterable(turn.unread() for turn in turns)
        return tuple(dict.fromkeys(chain(asked.unread(), of_turns)))


class _Asked(dict[str, JsonValue]):
    """A dict that notes the names it is asked for; so do the dicts in which its turns lie."""

    def __init__(self, value: JsonObject, where: str = "") -> None:
        self.where = where
        self.names: set[str] = set()
        self._there = tuple(value)
        super().__init__({key: _asking(inner, f"{where}{key}") for key, inner in value.items()})

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return super().__contains__(name)

    def __getitem__(self, name: str) -> JsonValue:
        self.names.add(name)
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        """Whoever goes through all names has seen them."""
        self.names.update(super().keys())
        return super().__iter__()

    def get(self, name: str, default: JsonValue = None) -> JsonValue:
        """Note the name and return its value."""
        self.names.add(name)
        return super().get(name, default)

    def inner(self) -> Iterator["_Asked"]:
        """Yield the dicts within."""
        for value in super().values():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, _Asked):
                    yield one
                    yield from one.inner()

    def unread(self) -> Iterator[UnreadKey]:
        """Yield the names that are there and were not asked for, with names that were asked for in vain."""
        wanted = {*self.names.difference(self._there), *(() if self.where else _MEANT)}
        missed = {name.casefold(): name for name in sorted(wanted)}
        for name in self._there:
            if name not in self.names:
                yield UnreadKey(f"{self.where}{name}", _like(name.casefold(), missed))


def _asking(value: JsonValue, where: str) -> JsonValue:
    """Let the dicts of a value note what they are asked for, as deep as turns lie: `input.messages[]`."""
    if isinstance(value, list):
        return [_Asked(inner, f"{where}[].") if isinstance(inner, dict) else inner for inner in value]
    return _Asked(value, f"{where}.") if isinstance(value, dict) and "." not in where else value


def _like(name: str, missed: dict[str, str]) -> str | None:
    longer = [known for known in missed if name.startswith(f"{known}_")]
    close = longer or get_close_matches(name, missed, n=1, cutoff=_LIKENESS)
    return missed[close[0]] if close else None


def _shape(value: JsonValue) -> Hashable:
    """Return what tells two values apart whose turns have other keys; the order of the turns is none of it."""
    if isinstance(value, dict):
        return tuple((key, _shape(inner)) for key, inner in value.items() if isinstance(inner, list))
    if isinstance(value, list):
        return frozenset(tuple(one) if isinstance(one, dict) else None for one in value)
    return None
