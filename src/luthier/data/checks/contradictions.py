"""The same question with different answers: training on both teaches neither.

Where answers are labels or short values that is an error in the data. Where they are free text,
several answers may all be right, and the finding is only a hint.
What it cannot see: the same question in other words.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from luthier.core.hashing import text_hash
from luthier.core.types import Conversation, Finding, Row
from luthier.data.checking import Context, Dimension
from luthier.data.normal import answer, normalized, place, question

_MOST_NAMED = 4
_MOST_CHARACTERS = 60


class Check:
    """Find questions with more than one answer; case, punctuation and white space do not count."""

    dimension: ClassVar[Dimension] = "consistent"
    effect: ClassVar[str] = "training on both answers teaches neither, and a test row with a wrong answer cannot be won"
    blind: ClassVar[str] = "the same question in other words"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._asking: dict[str, list[int]] = {}
        self._answers: dict[int, str] = {}
        self._uses: Counter[str] = Counter()

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Keep hashes of what a conversation asks and answers."""
        if isinstance(row.content, Conversation):
            given = text_hash(normalized(answer(row)))[:16]
            self._answers[position] = given
            self._uses[given] += 1
            asked = text_hash(f"{_system(row)}\x1f{normalized(question(row))}")[:16]
            self._asking.setdefault(asked, []).append(position)
        return ()

    def end(self) -> Iterator[Finding]:
        """Yield one finding for each question, in the order of their first rows."""
        for asked in self._asking.values():
            if len({self._answers[position] for position in asked}) > 1:
                rows = [self._context.row_at(position) for position in asked]
                yield _finding(rows, {row.id: self._answers[at] for row, at in zip(rows, asked)}, self._uses)


def _system(row: Row) -> str:
    """Return the system prompt: another one asks for another answer."""
    assert isinstance(row.content, Conversation)
    return "\n".join(message.content for message in row.content.messages if message.role == "system")


def _finding(asked: Sequence[Row], answers: dict[str, str], uses: Counter[str]) -> Finding:
    given: dict[str, list[Row]] = {}
    for row in asked:
        given.setdefault(answers[row.id], []).append(row)
    # An answer that also stands under other questions is one of a set of labels, and then only one can be right.
    labels = all(uses[text] > len(rows) for text, rows in given.items())
    identical = len({question(row) for row in asked}) == 1
    return Finding(
        check="contradictions",
        kind="label" if labels else "text",
        severity="warning" if labels else "info",
        confidence=(0.95 if identical else 0.9) if labels else 0.3,
        rows=tuple(row.id for row in asked),
        detail=f"{len(asked)} rows ask the same and have {len(given)} different answers: {_named(given)}.",
        fix=_fix(given),
    )


def _named(given: dict[str, list[Row]]) -> str:
    named = [f"{_quoted(rows[0])} ({_count(rows)})" for rows in list(given.values())[:_MOST_NAMED]]
    more = len(given) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _quoted(row: Row) -> str:
    text = " ".join(answer(row).split())
    return repr(text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "...")


def _count(rows: Sequence[Row]) -> str:
    return place(rows[0]) if len(rows) == 1 else f"{len(rows)} rows, first {place(rows[0])}"


def _fix(given: dict[str, list[Row]]) -> str:
    ranked = sorted(given.values(), key=len, reverse=True)
    first, second = ranked[0], ranked[1]
    if len(first) == len(second):
        return "Decide which answer is right and drop the others; none has a majority."
    total = sum(map(len, ranked))
    return f"Look at the rows that do not say {_quoted(first[0])}, which {len(first)} of {total} rows say."
