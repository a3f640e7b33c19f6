"""Tool calls read out of an answer while it is written: text outside of calls goes on, a call comes whole.

A call is what its template's format says, names a tool that may be called, and has an object of arguments. All else that
looks like one stays text, to the last character; so nothing is ever half a call. Blanks around the marks count as
nothing, since models are freer with them than templates. Where a template has no mark (Llama 3), an answer is a call
only from its beginning on. However the text is cut into pieces, what is read is the same.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import Enum, auto

from luthier.data.call_format import CallFormat, dense
from luthier.data.json_rows import parse_object
from luthier.data.problems import RowProblem
from luthier.generate.request import CallPiece, Delta, Event


@dataclass(frozen=True, slots=True)
class Call:
    """A tool's name and its arguments as JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Read:
    """What a piece of an answer has made certain: text, and calls."""

    text: str = ""
    calls: tuple[Call, ...] = ()


class _Place(Enum):
    OUTSIDE = auto()
    OPENED = auto()
    OBJECT = auto()
    BEHIND = auto()


class CallReader:
    """Reads one answer; `most` calls of the tools `names`, after which nothing is read."""

    def __init__(self, format: CallFormat, names: Collection[str], most: int | None = None) -> None:
        self._format, self._names, self._most = format, names, most
        self._mark, self._closing = dense(format.opening), dense(format.closing)
        self._separator = None if format.separator is None else dense(format.separator)
        self._held = ""  # what is not decided yet: blanks and perhaps a call, from its mark on
        self._place = _Place.OUTSIDE
        self._at = 0  # where in the held text the object begins, or what stands behind it
        self._scan = _ObjectScan()
        self._said = False  # text was shown, so that what follows is no answer's beginning
        self._text: list[str] = []
        self._calls: list[Call] = []
        self._num_calls = 0

    @property
    def called(self) -> bool:
        """Whether a call has come."""
        return self._num_calls > 0

    def push(self, text: str) -> Read:
        """Return what more text makes certain, often nothing."""
        if self._num_calls == self._most:
            return Read()
        self._held += text
        steps: dict[_Place, Callable[[], bool]] = {
            _Place.OUTSIDE: self._outside, _Place.OPENED: self._opened, _Place.OBJECT: self._object, _Place.BEHIND: self._behind,
        }  # fmt: skip
        while self._held and self._num_calls != self._most and steps[self._place]():
            pass
        return self._taken()

    def rest(self) -> Read:
        """Return what is left when no text comes any more."""
        done = self._place is _Place.BEHIND or (self.called and not self._held.strip())
        if self._num_calls != self._most and not done:
            self._show(len(self._held))
        return self._taken()

    def _taken(self) -> Read:
        read = Read("".join(self._text), tuple(self._calls))
        self._text, self._calls = [], []
        return read

    def _show(self, end: int) -> None:
        """Let held text through up to a place."""
        if end:
            self._text.append(self._held[:end])
            self._said = True
        self._held, self._place = self._held[end:], _Place.OUTSIDE

    def _outside(self) -> bool:
        """Look for the mark; blanks in front of it belong to it. Return whether there is more to do."""
        if not self._mark:
            return self._outside_unmarked()
        start = 0
        while (start := self._held.find(self._mark[0], start)) >= 0:
            end = _behind(self._held, start, self._mark)
            if end is None or end >= 0:
                break
            start += 1
        else:
            end = None
        before = self._held if start < 0 else self._held[:start]
        if sure := len(before.rstrip()):
            self._show(sure)
            return True
        if end is None:
            return False
        self._place, self._at = _Place.OPENED, end
        return True

    def _outside_unmarked(self) -> bool:
        start = _behind(self._held, 0, dense(self._format.lead)) if not self._said else -1
        if start is None:
            return False
        if start < 0 or self.called:
            self._show(len(self._held))
            return False
        self._place, self._at = _Place.OPENED, start
        return True

    def _opened(self) -> bool:
        """Expect an object."""
        self._at = _skip_blanks(self._held, self._at)
        if self._at == len(self._held):
            return False
        if self._held[self._at] != "{":
            self._show(max(1, self._at))
            return True
        self._place, self._scan = _Place.OBJECT, _ObjectScan()
        return True

    def _object(self) -> bool:
        """Look for the object's end, and whether it is a call."""
        end = self._scan.end(self._held, self._at)
        if end is None:
            return False
        call = self._call(self._held[self._at : end])
        if call is None:
            self._show(end)
            return True
        self._calls.append(call)
        self._num_calls += 1
        self._held, self._place = self._held[end:], _Place.BEHIND
        return True

    def _behind(self) -> bool:
        """Expect another call of the same block, or the block's end; all else is text again."""
        start = _skip_blanks(self._held, 0)
        if start == len(self._held):
            return False
        another, end = (_behind(self._held, start, mark) if mark else -1 for mark in (self._separator, self._closing))
        if another is None or (another < 0 and end is None):
            return False
        if another >= 0:
            self._place, self._at = _Place.OPENED, another
        elif end is not None and end >= 0:
            self._held, self._place = self._held[end:], _Place.OUTSIDE
        elif self._separator == "" and self._held[start] == "{":
            self._place, self._at = _Place.OPENED, start
        else:
            self._place = _Place.OUTSIDE
        return True

    def _call(self, text: str) -> Call | None:
        try:
            value = parse_object(text)
        except RowProblem:
            return None
        name, arguments = value.get(self._format.name_key), value.get(self._format.arguments_key)
        if not isinstance(name, str) or name not in self._names or not isinstance(arguments, dict):
            return None
        return Call(name, json.dumps(arguments, ensure_ascii=False))


class CallReaders:
    """Readers of all answers that are being written; what they read takes the place of the engine's events."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._readers: dict[tuple[str, int], CallReader] = {}
        self._counts: dict[tuple[str, int], int] = {}

    def add(self, request: str, choice: int, reader: CallReader) -> None:
        """Read one choice of a request until it ends."""
        self._readers[request, choice] = reader

    def read(self, event: Event) -> list[Event]:
        """Return what there is to tell instead of an event."""
        key = event.request, event.choice
        reader = self._readers.get(key)
        if reader is None:
            return [event]
        if isinstance(event, Delta):
            return self._told(event, reader.push(event.text))
        left = self._told(Delta(event.request, event.choice, ""), reader.rest())
        del self._readers[key]
        self._counts.pop(key, None)
        reason = "tool_calls" if reader.called and event.reason == "stop" else event.reason
        return [*left, replace(event, reason=reason)]

    def _told(self, delta: Delta, read: Read) -> list[Event]:
        key = delta.request, delta.choice
        pieces: list[CallPiece] = []
        for call in read.calls:
            index = self._counts.get(key, 0)
            self._counts[key] = index + 1
            pieces += [CallPiece(index, self._new_id(), call.name, ""), CallPiece(index, arguments=call.arguments)]
        told = replace(delta, text=read.text, calls=tuple(pieces))
        return [told] if told.text or told.tokens or told.calls else []


class _ObjectScan:
    """Finds the end of a JSON object that grows; looks at each character once."""

    def __init__(self) -> None:
        self._seen = self._depth = 0
        self._in_string = self._escaped = False

    def end(self, text: str, start: int) -> int | None:
        """Return where the object that begins at `start` ends, None where the text ends before it does."""
        for at in range(start + self._seen, len(text)):
            self._seen += 1
            sign = text[at]
            if self._in_string:
                self._in_string = self._escaped or sign != '"'
                self._escaped = not self._escaped and sign == "\\"
            elif sign == '"':
                self._in_string = True
            else:
                self._depth += (sign in "{[") - (sign in "}]")
                if self._depth <= 0:
                    return at + 1
        return None


def _behind(text: str, at: int, mark: str) -> int | None:
    """Return where a mark that begins at `at` ends, -1 where there is none, None where the text ends within it."""
    for sign in mark:
        at = _skip_blanks(text, at)
        if at == len(text):
            return None
        if text[at] != sign:
            return -1
        at += 1
    return at


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
