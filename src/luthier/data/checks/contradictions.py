"""The same question with different answers: training on both teaches neither.

Where answers are labels or JSON with short values that is an error in the data, and for JSON the fields are named.
Where they are free text several answers may all be right: then only answers that are far apart are told,
as a hint. Questions are the same when they differ in case, accents, punctuation and white space; for labels and
JSON also when only idle words differ (see `luthier.data.near_same`), never in a number, a negation or a name.

What it cannot see: the same question in other words or with a typing error, and which answer is right where no
majority says so.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from luthier.core.hashing import canonical_json
from luthier.core.types import Conversation, Finding, Repair, Row
from luthier.data.answers_kind import LONGEST_LABEL, Labels, as_json_object, values_by_path, with_answer
from luthier.data.checking import Context, Dimension
from luthier.data.gathered import shown
from luthier.data.near_same import near_key, value_key
from luthier.data.normal import answer, normalized, place, question, text_key

Kind = Literal["label", "field", "text"]
_MOST_NAMED = 4
_FAR_APART = 0.5
_CONFIDENCE: dict[tuple[Kind, bool], float] = {
    ("label", True): 0.95, ("label", False): 0.75, ("field", True): 0.85, ("field", False): 0.6, ("text", True): 0.3,
}  # fmt: skip


class Check:
    """Find questions with more than one answer."""

    dimension: ClassVar[Dimension] = "consistent"
    effect: ClassVar[str] = "training on both answers teaches neither, and a test row with a wrong answer cannot be won"
    blind: ClassVar[str] = "the same question in other words or misspelled; which answer is right without a majority"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._positions = array("i")
        self._asked = array("Q")
        self._answered = array("Q")
        self._labels = Labels()

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Keep two numbers of a conversation: one for what it asks, one for what it answers."""
        if isinstance(row.content, Conversation):
            text = answer(row).strip()
            self._positions.append(position)
            self._asked.append(_number(f"{_system(row)}\x1f{near_key(question(row))}"))
            self._answered.append(_number(_answer_key(text)))
            self._labels.add(position, text)
        return ()

    def end(self) -> Iterator[Finding]:
        """Yield one finding for each question, in the order of their first rows."""
        answered_N = np.frombuffer(self._answered, dtype=np.uint64)
        times = dict(zip(*(array.tolist() for array in np.unique(answered_N, return_counts=True))))
        for members in _contested(np.frombuffer(self._asked, dtype=np.uint64), answered_N):
            rows = [self._context.row_at(self._positions[member]) for member in members]
            uses = Counter(int(answered_N[member]) for member in members)
            # An answer that also stands under other questions is one of a set of labels: only one can be right.
            short = all(len(answer(row).strip()) <= LONGEST_LABEL for row in rows)
            comes_again = short and all(times[number] > count for number, count in uses.items())
            yield from _findings(rows, self._labels.are_labels or comes_again)


@dataclass(frozen=True)
class _Answers:
    """Rows that ask the same, by what they answer, the most common answer first."""

    kind: Kind
    by_answer: list[list[Row]]

    @property
    def rows(self) -> list[Row]:
        """All rows, in the order of the answers."""
        return [row for rows in self.by_answer for row in rows]

    @property
    def identical(self) -> bool:
        """Whether the questions are the same, normalized."""
        return len({normalized(question(row)) for row in self.rows}) == 1

    @property
    def has_majority(self) -> bool:
        """Whether one answer stands on more rows than any other."""
        return len(self.by_answer[0]) > len(self.by_answer[1])


def _number(text: str) -> int:
    return int.from_bytes(text_key(text)[:8], "big")


def _answer_key(text: str) -> str:
    """Return what makes an answer: JSON by its values in whatever order, anything else normalized."""
    value = as_json_object(text)
    return normalized(text) if value is None else canonical_json(value).casefold()


def _system(row: Row) -> str:
    """Return the system prompt: another one asks for another answer."""
    assert isinstance(row.content, Conversation)
    return "\n".join(message.content for message in row.content.messages if message.role == "system")


def _contested(asked_N: np.ndarray, answered_N: np.ndarray) -> Iterator[list[int]]:
    """Yield the members of each question that has two answers or more, by their first member."""
    order = np.lexsort((np.arange(len(asked_N)), asked_N))
    starts = np.flatnonzero(np.r_[True, asked_N[order][1:] != asked_N[order][:-1]]) if len(order) else []
    groups = [group for group in np.split(order, starts[1:]) if len(group) > 1] if len(order) else []
    contested = [group.tolist() for group in groups if (answered_N[group] != answered_N[group[0]]).any()]
    yield from sorted(contested)


def _findings(rows: Sequence[Row], are_labels: bool) -> Iterator[Finding]:
    kind = _kind(rows, are_labels)
    if kind != "text":
        answers = _by_answer(rows, kind)
        if len(answers) > 1:
            yield _finding(_Answers(kind, answers))
        return
    by_question: dict[str, list[Row]] = {}
    for row in rows:
        by_question.setdefault(normalized(question(row)), []).append(row)
    for asked in by_question.values():
        answers = _by_answer(asked, kind)
        if len(answers) > 1 and _far_apart([answer(given[0]) for given in answers]):
            yield _finding(_Answers(kind, answers))


def _kind(rows: Sequence[Row], are_labels: bool) -> Kind:
    if all(as_json_object(answer(row)) is not None for row in rows):
        return "field"
    return "label" if are_labels else "text"


def _by_answer(rows: Sequence[Row], kind: Kind) -> list[list[Row]]:
    given: dict[str, list[Row]] = {}
    for row in rows:
        key = repr(_values(row)) if kind == "field" else _answer_key(answer(row).strip())
        given.setdefault(key, []).append(row)
    return sorted(given.values(), key=len, reverse=True)


def _far_apart(texts: Sequence[str]) -> bool:
    """Tell whether the first text shares less than half its words with another, or has other numbers."""
    first, *others = [set(normalized(text).split()) for text in texts]
    return any(
        len(first & other) < _FAR_APART * len(first | other) or _numbers(first) != _numbers(other) for other in others
    )


def _numbers(words: set[str]) -> set[str]:
    return {word for word in words if any(map(str.isdigit, word))}


def _finding(answers: _Answers) -> Finding:
    rows, kind, identical = answers.rows, answers.kind, answers.identical
    short = kind != "field" or _has_short_difference(answers)
    return Finding(
        check="contradictions",
        kind=kind,
        severity="warning" if kind != "text" and short else "info",
        confidence=_CONFIDENCE[kind, identical],
        rows=tuple(row.id for row in sorted(rows, key=lambda row: (row.file, row.record))),
        detail=_detail(answers),
        fix=_fix(answers),
        repairs=_repairs(answers),
    )


def _has_short_difference(answers: _Answers) -> bool:
    """Tell whether a field differs in something else than prose, which may be worded in many ways."""
    pairs = _fields(answers).values()
    return any(len(value or "") <= LONGEST_LABEL for pair in pairs for value in pair)


def _fields(answers: _Answers) -> dict[str, tuple[str | None, str | None]]:
    """Return the fields in which the first two answers differ, with both values; None where there is none."""
    first, second = (given[0] for given in answers.by_answer[:2])
    left, right = _values(first), _values(second)
    paths = [path for path in {**dict(left), **dict(right)} if dict(left).get(path) != dict(right).get(path)]
    return {path: (_said(first, path), _said(second, path)) for path in paths}


def _values(row: Row) -> list[tuple[str, list[str]]]:
    """Return the values of a JSON answer by field, so that what was cut out of nearly the same question is the same."""
    value = as_json_object(answer(row))
    assert value is not None
    return sorted((path, sorted(map(value_key, found))) for path, found in values_by_path(value).items())


def _said(row: Row, path: str) -> str | None:
    value = as_json_object(answer(row))
    assert value is not None
    found = values_by_path(value).get(path)
    return None if found is None else ", ".join(found)


def _detail(answers: _Answers) -> str:
    same = "the same" if answers.identical else "the same but for idle words"
    said = f"{len(answers.rows)} rows ask {same} and have {len(answers.by_answer)} different answers"
    if answers.kind == "field":
        first, second = (place(given[0]) for given in answers.by_answer[:2])
        told = [
            f"{path!r} is {_value(one)} ({first}) and {_value(other)} ({second})"
            for path, (one, other) in _fields(answers).items()
        ]
        listed = _listed(told) or f"nested parts ({first} and {second})"
        return f"{said}: {listed}; asked is {shown(question(answers.rows[0]))}."
    return f"{said}: {_listed([f'{_quoted(given[0])} ({_count(given)})' for given in answers.by_answer])}."


def _listed(told: Sequence[str]) -> str:
    more = len(told) - _MOST_NAMED
    return ", ".join(told[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _value(value: str | None) -> str:
    return "absent" if value is None else shown(value)


def _quoted(row: Row) -> str:
    return shown(answer(row))


def _count(rows: Sequence[Row]) -> str:
    return place(rows[0]) if len(rows) == 1 else f"{len(rows)} rows, first {place(rows[0])}"


def _fix(answers: _Answers) -> str:
    if not answers.has_majority:
        return "Decide which answer is right and drop the others; none has a majority."
    first, total = answers.by_answer[0], len(answers.rows)
    return f"Look at the rows that do not say {_quoted(first[0])}, which {len(first)} of {total} rows say."


def _repairs(answers: _Answers) -> tuple[Repair, ...]:
    """Propose the majority's answer for the other rows; where prose differs, or only nearly the same is asked of JSON, nothing."""
    if answers.kind == "text" or not answers.has_majority or (answers.kind == "field" and not answers.identical):
        return ()
    first, *others = answers.by_answer
    text = Counter(answer(row).strip() for row in first).most_common(1)[0][0]
    return tuple(
        Repair(row.id, "fix", safe=False, content=with_answer(row.content, text)) for given in others for row in given
    )
