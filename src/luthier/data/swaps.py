"""Made rows for extraction: a copied value gives way to another row's value of the same field, in question and answer alike.

Named-entity recognition knows this as mention replacement (Dai and Adel 2020, arXiv 2010.11683). A small model that
sees the same names in the same sentences, epoch after epoch, learns the rows by heart; where names and
sentences meet anew, it has to read. A value comes from a row with the same labels, so that a sentence about music gets
no city; whether the new sentence makes sense is not looked at. Only training rows are read.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from luthier.core.hashing import generator
from luthier.core.types import Conversation, JsonValue, Message, Row
from luthier.data.copied import Extraction, Form, dumped, learned, whole
from luthier.data.normal import normalized, text_key

_SWAPPED = 0.5
_TRIES = 4

Place = tuple[str | int, ...]
Values = dict[tuple[str, str], list[str]]


def swapped(rows: Sequence[Row], share: float, seed: int, held_out: Collection[bytes]) -> list[Row]:
    """Return `share` made rows for each row that has copied values, none of which asks what a row, or `held_out`, asks.

    `held_out` are the keys (`asked_key`) of questions that nothing may be trained on. Raises DataError where the answers
    are no objects, or copy nothing.
    """
    asked = [row for row in rows if _pair(row)]
    extraction = learned(_texts(row) for row in asked)
    known = {*held_out, *(asked_key(_texts(row)[0]) for row in asked)}
    values = _values(asked, extraction)
    made: list[Row] = []
    for turn in range(int(np.ceil(share))):
        for row in asked:
            rng = generator(seed, "swap", turn, row.id)
            if rng.random() >= share - turn:
                continue
            for _ in range(_TRIES):
                question, answer = _swap(row, extraction, values, rng)
                if (key := asked_key(question)) not in known:
                    known.add(key)
                    made.append(_made(row, f"{row.id}~{turn + 1}", question, answer))
                    break
    return made


def asked_key(question: str) -> bytes:
    """Return what two questions have in common that ask the same but for case, marks and blanks."""
    return text_key(normalized(question))


def _swap(row: Row, extraction: Extraction, values: Values, rng: np.random.Generator) -> tuple[str, str]:
    """Draw new values for about half of those that stand at one place of the question alone."""
    question, written = _texts(row)
    answer = json.loads(written)
    kind = _kind(answer, extraction.form)
    free: list[tuple[int, str, Place, str]] = []
    for path, place, text in _leaves(answer, extraction.form):
        found = whole(text, question)
        if len(found) == 1 and len(values[kind, path]) > 1:
            free.append((found[0], text, place, path))
    free.sort(key=lambda leaf: leaf[0])
    apart = [
        leaf for before, leaf, behind in zip([None, *free], free, [*free[1:], None]) if _apart(before, leaf, behind)
    ]
    for start, text, place, path in reversed(apart):
        if rng.random() < _SWAPPED:
            pool = values[kind, path]
            new = pool[int(rng.random() * len(pool))]
            question = question[:start] + new + question[start + len(text) :]
            _put(answer, place, new)
    return question, dumped(answer, extraction.comma, extraction.colon)


def _values(rows: Sequence[Row], extraction: Extraction) -> Values:
    """Return the different values of each field in the rows of each kind, in the order of the rows."""
    values: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        answer = json.loads(_texts(row)[1])
        kind = _kind(answer, extraction.form)
        for path, _, text in _leaves(answer, extraction.form):
            values.setdefault((kind, path), {})[text] = None
    return {key: list(texts) for key, texts in values.items()}


def _leaves(value: JsonValue, form: Form, path: str = "", place: Place = ()) -> Iterator[tuple[str, Place, str]]:
    """Yield the path, the place and the text of every copied value."""
    match value:
        case str() if value and form.is_copied:
            yield path, place, value
        case list() if form.items is not None:
            for index, inner in enumerate(value):
                yield from _leaves(inner, form.items, path, (*place, index))
        case dict():
            for key, inner in value.items():
                yield from _leaves(inner, form.keys[key], f"{path}.{key}".lstrip("."), (*place, key))
        case _:
            pass


def _kind(answer: JsonValue, form: Form) -> str:
    """Return the labels of an answer: its top-level texts that are no copies."""
    assert isinstance(answer, dict)
    return dumped(
        [text for key, text in sorted(answer.items()) if isinstance(text, str) and not form.keys[key].is_copied]
    )


def _apart(
    before: tuple[int, str, Place, str] | None,
    leaf: tuple[int, str, Place, str],
    behind: tuple[int, str, Place, str] | None,
) -> bool:
    start, end = leaf[0], leaf[0] + len(leaf[1])
    return (before is None or before[0] + len(before[1]) <= start) and (behind is None or end <= behind[0])


def _put(answer: JsonValue, place: Place, text: str) -> None:
    holder = cast("dict[str | int, JsonValue]", answer)  # or a list, which is indexed alike
    for step in place[:-1]:
        holder = cast("dict[str | int, JsonValue]", holder[step])
    holder[place[-1]] = text


def _pair(row: Row) -> bool:
    content = row.content
    return isinstance(content, Conversation) and [m.role for m in content.messages[-2:]] == ["user", "assistant"]


def _texts(row: Row) -> tuple[str, str]:
    content = row.content
    assert isinstance(content, Conversation)
    return content.messages[-2].content, content.messages[-1].content


def _made(row: Row, id: str, question: str, answer: str) -> Row:
    content = row.content
    assert isinstance(content, Conversation)
    asked, answered = content.messages[-2:]
    messages: tuple[Message, ...] = (
        *content.messages[:-2], replace(asked, content=question), replace(answered, content=answer),
    )  # fmt: skip
    return replace(row, id=id, content=replace(content, messages=messages))
