"""Which system prompts the rows have: one in several spellings, one that few rows have, or none where others have one."""

from array import array
from collections import defaultdict
from collections.abc import Iterator

from luthier.core.types import Conversation
from luthier.data.deviations import Deviation
from luthier.data.gathered import shown
from luthier.data.normal import normalized

_MOST_PROMPTS = 1_000
_MAJORITY = 0.8
_NONE, _ANY_OTHER = 0, 1


class SystemPrompts:
    """The system prompts by number, with their rows; 0 is none, and past a thousand all further ones are number 1."""

    def __init__(self) -> None:
        self._texts = ["", ""]
        self._number = {"": _NONE}
        self._rows: defaultdict[int, array[int]] = defaultdict(lambda: array("i"))

    def add(self, position: int, content: Conversation) -> int:
        """Count the system prompt of a conversation and return its number."""
        text = "\n".join(message.content for message in content.messages if message.role == "system")
        number = self._number.get(text)
        if number is None and len(self._texts) > _MOST_PROMPTS:
            number = _ANY_OTHER
        elif number is None:
            number = self._number[text] = len(self._texts)
            self._texts.append(text)
        self._rows[number].append(position)
        return number

    def deviations(self) -> Iterator[Deviation]:
        """Yield spellings of one prompt, rows without the prompt that most have, and prompts beside a common one."""
        total = sum(map(len, self._rows.values()))
        usual = max(self._rows, key=lambda number: len(self._rows[number]), default=_NONE)
        yield from self._spellings()
        if usual in (_NONE, _ANY_OTHER) or len(self._rows[usual]) < _MAJORITY * total:
            return
        if self._rows.get(_NONE):
            yield self._deviation(
                "system-prompt-missing", _NONE, f"without a system prompt where most have {shown(self._texts[usual])}",
                "Give them the same system prompt: the model will be served with it.",
            )  # fmt: skip
        same = normalized(self._texts[usual])
        for number in sorted(self._rows.keys() - {usual, _NONE}):
            if normalized(self._texts[number]) != same:
                yield self._deviation(
                    "system-prompt-other", number,
                    f"under the system prompt {shown(self._texts[number])} where most have {shown(self._texts[usual])}",
                    "Serve these rows with their own prompt too, or give them the usual one.",
                )  # fmt: skip

    def _spellings(self) -> Iterator[Deviation]:
        groups: defaultdict[str, list[int]] = defaultdict(list)
        for number in self._rows.keys() - {_NONE, _ANY_OTHER}:
            groups[normalized(self._texts[number])].append(number)
        for numbers in groups.values():
            usual = max(numbers, key=lambda number: len(self._rows[number]))
            for number in sorted(numbers):
                if number != usual:
                    yield self._deviation(
                        "system-prompt-spelling", number,
                        f"spelling the system prompt {shown(self._texts[number])} otherwise than most",
                        "Use one spelling, the one that will be served, to the letter.",
                    )  # fmt: skip

    def _deviation(self, kind: str, number: int, says: str, fix: str) -> Deviation:
        info = kind == "system-prompt-other"
        return Deviation(kind, "info" if info else "warning", 0.6 if info else 0.9, self._rows[number], says, fix)
