"""Answers that say the same kind of thing in different forms: the model will mix what the rows mix.

JSON beside prose; the schema of JSON answers inferred, and where rows depart from it (key order, key
spellings, missing keys, types); dates, numbers, amounts and truths written in several ways in one field; labels
in several spellings; answers in another language than their question; system prompts that differ or are missing.
Rows under different system prompts may answer in different forms. White space around answers is for `characters`.

What it cannot see: forms that instructions in the question ask for, inconsistent wording of prose, and languages
in texts of less than six words or outside the dozen that it knows; languages are looked for in a sample of rows.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import ClassVar

from luthier.core.types import Conversation, Finding, JsonObject, Row
from luthier.data.answers_kind import Labels, as_json_object, scalars
from luthier.data.checking import Context, Dimension
from luthier.data.deviations import Deviation, deviation_finding
from luthier.data.label_spellings import spelling_deviations
from luthier.data.languages import language
from luthier.data.normal import answer, question
from luthier.data.object_shapes import ObjectShapes
from luthier.data.system_prompts import SystemPrompts
from luthier.data.value_formats import ValueFormats

_MOST_FIELDS = 200
_LANGUAGE_ROWS = 5_000
_FEWEST_ANSWERS = 10
_FORM_SHARE = 0.8
_AGREEING_SHARE = 0.9
_FENCE = "```"


class Check:
    """Find answers whose form departs from that of most answers."""

    dimension: ClassVar[Dimension] = "consistent"
    effect: ClassVar[str] = "a model answers in one form only if its rows do; programs break on the others"
    blind: ClassVar[str] = "forms that the question asks for, wording of prose, the language of very short texts"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stride = max(1, context.num_rows // _LANGUAGE_ROWS)
        self._systems = SystemPrompts()
        self._forms: defaultdict[int, defaultdict[str, array[int]]] = defaultdict(
            lambda: defaultdict(lambda: array("i"))
        )
        self._shapes = ObjectShapes()
        self._labels = Labels()
        self._fields: dict[str, tuple[ValueFormats, Labels]] = {}
        self._languages: list[tuple[int, str, str]] = []

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Count the form of a conversation's answer and what it is made of."""
        if isinstance(row.content, Conversation):
            system = self._systems.add(position, row.content)
            text = answer(row).strip()
            if text and not row.content.messages[-1].tool_calls:
                value = as_json_object(text)
                self._forms[system][_form(text, value)].append(position)
                if value is None:
                    self._see_text(position, text, question(row))
                else:
                    self._see_object(position, value, question(row))
        return ()

    def end(self) -> Iterator[Finding]:
        """Yield one finding for each way in which rows depart from the others."""
        for deviation in self._deviations():
            yield deviation_finding("consistency", deviation, self._context)

    def _see_text(self, position: int, text: str, asked: str) -> None:
        self._labels.add(position, text)
        if position % self._stride == 0:
            answered = language(text)
            if answered is not None:
                self._languages.append((position, answered, language(asked) or answered))

    def _see_object(self, position: int, value: JsonObject, asked: str) -> None:
        self._shapes.add(position, value)
        for path, inner in scalars(value):
            if isinstance(inner, str) and (path in self._fields or len(self._fields) < _MOST_FIELDS):
                formats, labels = self._fields.setdefault(path, (ValueFormats(), Labels()))
                formats.add(position, inner, inner in asked)
                if path and "[]" not in path:
                    labels.add(position, inner)

    def _deviations(self) -> Iterator[Deviation]:
        for forms in self._forms.values():
            yield from _form_deviations(forms)
        yield from self._shapes.deviations()
        if self._labels.are_labels:
            yield from spelling_deviations(self._labels)
        for path, (formats, labels) in self._fields.items():
            yield from formats.deviations(path)
            # What is copied out of the question is spelled as the question spells it.
            if labels.are_labels and not formats.are_copied:
                yield from spelling_deviations(labels, path)
        yield from _language_deviations(self._languages)
        yield from self._systems.deviations()


def _form(text: str, value: JsonObject | None) -> str:
    if value is not None:
        return "a JSON object"
    if text.startswith(_FENCE) and as_json_object(_unfenced(text)) is not None:
        return "JSON in a code fence"
    return "text"


def _unfenced(text: str) -> str:
    """Return what stands between the first line and the closing fence."""
    return text.partition("\n")[2].rpartition(_FENCE)[0].strip()


def _form_deviations(forms: dict[str, "array[int]"]) -> Iterator[Deviation]:
    """Yield the forms that few rows have; JSON among prose may be a task of its own, prose among JSON breaks programs."""
    total = sum(map(len, forms.values()))
    usual = max(forms, key=lambda form: len(forms[form]))
    if total < _FEWEST_ANSWERS or len(forms[usual]) < _FORM_SHARE * total:
        return
    for form, positions in forms.items():
        if form != usual:
            yield Deviation(
                kind="answer-form",
                severity="info" if usual == "text" else "warning",
                confidence=0.5 if usual == "text" else 0.95,
                positions=positions,
                says=f"answering with {form} where {len(forms[usual]) / total:.1%} answer with {usual}",
                fix=f"Write these answers as {usual} too, or give the two tasks system prompts of their own.",
            )


def _language_deviations(seen: list[tuple[int, str, str]]) -> Iterator[Deviation]:
    """Yield the rows answered in another language than they ask in, where nearly all agree, then the rarer languages."""
    if len(seen) < _FEWEST_ANSWERS:
        return
    crossed = [one for one in seen if one[1] != one[2]]
    if len(crossed) <= (1 - _AGREEING_SHARE) * len(seen):
        for pair in dict.fromkeys((answered, asked) for _, answered, asked in crossed):
            yield Deviation(
                kind="answer-language",
                severity="warning",
                confidence=0.7,
                positions=[position for position, *languages in crossed if tuple(languages) == pair],
                says=f"seemingly answered in {pair[0]} but asking in {pair[1]}",
                fix="Answer in the language of the question, unless that is the task.",
            )
    ((usual, count), *others) = Counter(answered for _, answered, _ in seen).most_common()
    for name, _ in others:
        yield Deviation(
            kind="mixed-languages",
            severity="info",
            confidence=0.7,
            positions=[position for position, answered, _ in seen if answered == name],
            says=f"of {len(seen):,} looked at answering in {name}, while {count:,} answer in {usual}",
            fix="Nothing, if users write in these languages; see that each has enough rows in training and in the test.",
        )
