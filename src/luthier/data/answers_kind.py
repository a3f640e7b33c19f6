"""What kind of answers a data set has: labels, JSON objects or prose; and when two labels are one.

Answers are counted while they stream by. What is kept of a row is one number, and of a label its spellings.
"""

import dataclasses
import json
import re
from array import array
from collections import Counter
from collections.abc import Iterator

from luthier.core.types import Content, Conversation, JsonObject, JsonValue

LONGEST_LABEL = 80
_MOST_SPELLINGS = 10_000
_FEWEST_ROWS = 8
_REPEATED_SHARE = 0.7
_SHORT_SHARE = 0.95
_MOST_NUMBERS = 20
_DEEPEST = 6
_SEPARATOR = re.compile(r"(?<!\d)[\s_\-]+|[\s_\-]+(?!\d)")
_NUMBER = re.compile(r"[-+]?[\d.,]*\d%?")


def spelling_key(label: str) -> str:
    """Return what is left of a label without case and without what stands between its words.

    `Card Arrival`, `card_arrival` and `CARD-ARRIVAL` are one label; `1-2` and `12`, `-1` and `1` are not.
    """
    folded = label.strip().casefold()
    return _SEPARATOR.sub("", folded) if any(map(str.isalpha, folded)) else folded


def as_json_object(text: str) -> JsonObject | None:
    """Return the object that the text is, or None; a text that does not begin like one costs nothing."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def scalars(value: JsonValue, path: str = "", depth: int = 0) -> Iterator[tuple[str, JsonValue]]:
    """Yield the leaves of a JSON value with their dotted paths; the elements of a list share the path `tags[]`."""
    if isinstance(value, dict):
        if depth < _DEEPEST:
            for key, inner in value.items():
                yield from scalars(inner, _joined(path, key), depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from scalars(inner, f"{path}[]", depth + 1)
    else:
        yield path, value


def values_by_path(value: JsonObject) -> dict[str, list[str]]:
    """Return the leaves of an object as texts, sorted: lists count as sets."""
    values: dict[str, list[str]] = {}
    for path, inner in scalars(value):
        values.setdefault(path, []).append(inner if isinstance(inner, str) else json.dumps(inner))
    return {path: sorted(found) for path, found in values.items()}


def with_value(text: str, path: str, new: JsonValue) -> str:
    """Return a JSON object as text with another value at a dotted path, spaced as it was."""
    value = json.loads(text)
    inner = value
    *outer, last = _steps(value, path, "")
    for key in outer:
        inner = inner[key]
    inner[last] = new
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": ") if '": ' in text else (",", ":"))


def _steps(value: JsonObject, path: str, prefix: str) -> list[str]:
    """Return the keys that lead to a leaf, nothing when there is none; keys may hold dots themselves."""
    for key, inner in value.items():
        here = _joined(prefix, key)
        if isinstance(inner, dict):
            if steps := _steps(inner, path, here):
                return [key, *steps]
        elif here == path:
            return [key]
    return []


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def with_answer_value(content: Content, path: str, text: str) -> Content:
    """Return a conversation with another answer or, given a path, with another value in its JSON answer."""
    if not path:
        return with_answer(content, text)
    assert isinstance(content, Conversation)
    given = next(message.content for message in reversed(content.messages) if message.role == "assistant")
    return with_answer(content, with_value(given, path, text))


def with_answer(content: Content, text: str) -> Content:
    """Return a conversation with another text in its last assistant turn."""
    assert isinstance(content, Conversation)
    messages = list(content.messages)
    last = max(place for place, message in enumerate(messages) if message.role == "assistant")
    messages[last] = dataclasses.replace(messages[last], content=text)
    return dataclasses.replace(content, messages=tuple(messages))


class Labels:
    """The answers of rows, numbered by their spelling, as long as they may be labels.

    `positions` and `codes` run side by side; `spellings[code]` is the text as written. Once there are too many
    different answers, or too many long ones, they are prose: everything is let go and `are_labels` is False.
    """

    def __init__(self) -> None:
        self.positions = array("i")
        self.codes = array("i")
        self.spellings: list[str] = []
        self._code_of: dict[str, int] = {}
        self._num_rows = 0
        self._num_long = 0
        self._prose = False

    def add(self, position: int, text: str) -> None:
        """Count one answer."""
        self._num_rows += 1
        if self._prose:
            return
        if len(text) > LONGEST_LABEL or "\n" in text.strip():
            self._num_long += 1
            self._prose = self._num_long > max(_FEWEST_ROWS, self._num_rows * (1 - _SHORT_SHARE))
        else:
            self.codes.append(self._code(text))
            self.positions.append(position)
            self._prose = len(self.spellings) > _MOST_SPELLINGS
        if self._prose:
            self._forget()

    @property
    def are_labels(self) -> bool:
        """Whether the answers are short and most of them come again, numbers only when there are few of them."""
        if self._prose or self._num_rows < _FEWEST_ROWS or self._num_long > (1 - _SHORT_SHARE) * self._num_rows:
            return False
        counts = Counter(self.keys().values())
        times = self.key_counts()
        if len(times) > _MOST_NUMBERS and sum(map(_is_number, counts)) > len(counts) / 2:
            return False
        repeated = sum(count for count in times.values() if count > 1)
        return repeated >= _REPEATED_SHARE * len(self.codes) and len(times) <= max(2, len(self.codes) / 2)

    def keys(self) -> dict[int, str]:
        """Return the spelling key of every code."""
        return {code: spelling_key(text) for code, text in enumerate(self.spellings)}

    def spelling_counts(self) -> list[int]:
        """Return how many rows write each spelling, by code."""
        counts = Counter(self.codes)
        return [counts[code] for code in range(len(self.spellings))]

    def key_counts(self) -> Counter[str]:
        """Return how many rows have each label, all spellings together."""
        counts: Counter[str] = Counter()
        for code, count in enumerate(self.spelling_counts()):
            counts[spelling_key(self.spellings[code])] += count
        return counts

    def _code(self, text: str) -> int:
        code = self._code_of.get(text)
        if code is None:
            code = self._code_of[text] = len(self.spellings)
            self.spellings.append(text)
        return code

    def _forget(self) -> None:
        self.positions, self.codes, self.spellings, self._code_of = array("i"), array("i"), [], {}


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None
