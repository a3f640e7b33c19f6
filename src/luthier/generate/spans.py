"""Hold answers to what extraction is: the objects of the training answers, their texts copied out of the question.

The form is learned from (question, answer) pairs: which keys an object has, which texts are copies of words of the
question, which are one of a few. A field whose training values are all copies can then only be answered with
neighbouring words of the question that is asked. Keys come in any order, as often as the model wants: what this holds
to is where the values come from, not which fields an answer should have.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from luthier.core.errors import DataError
from luthier.core.types import JsonValue

COPIED = 0.99
"""The share of a field's training values that must be copies, so that it is held to copies."""

_MOST_LABELS = 500
_FEWEST_OF_A_LABEL = 3
_LONGEST_QUESTION = 20_000
_DEEPEST = 8
_PIECE = re.compile(r"\w+|\s|[^\w\s]")
_STYLES = ((", ", ": "), (",", ":"))


@dataclass(slots=True)
class Form:
    """What stands at one place of the answers: how many values of each kind were seen there, and what lies below them."""

    values: int = 0
    texts: Counter[str] = field(default_factory=Counter[str])
    copies: int = 0
    others: set[str] = field(default_factory=set[str])
    objects: int = 0
    empty: bool = False
    keys: dict[str, "Form"] = field(default_factory=dict[str, "Form"])
    items: "Form | None" = None

    def see(self, value: JsonValue, question: str, depth: int = 0) -> None:
        """Take one value of a training answer in."""
        self.values += 1
        if depth > _DEEPEST:
            raise DataError(f"the training answers are nested deeper than {_DEEPEST}; answers cannot be held to spans.")
        match value:
            case str():
                self.texts[value] += 1
                self.copies += is_copy(value, question)
            case dict():
                self.objects += 1
                self.empty |= not value
                for key, inner in value.items():
                    self.keys.setdefault(key, Form()).see(inner, question, depth + 1)
            case list():
                self.items = self.items or Form()
                self.empty |= not value
                for inner in value:
                    self.items.see(inner, question, depth + 1)
            case None:
                self.others.add("null")
            case bool():
                self.others.add("boolean")
            case _:
                self.others.add("number")

    @property
    def is_copied(self) -> bool:
        """Tell whether the texts here are copies of words of the question."""
        return self.copies >= COPIED * self.texts.total()

    @property
    def is_label(self) -> bool:
        """Tell whether the texts here are some of a few, each of which comes back."""
        rare = sum(1 for count in self.texts.values() if count < _FEWEST_OF_A_LABEL)
        return len(self.texts) <= _MOST_LABELS and rare <= 0.01 * self.texts.total()


@dataclass(frozen=True, slots=True)
class Extraction:
    """The form of a training set's answers, and the marks that they are written with."""

    form: Form
    comma: str
    colon: str

    def copied(self) -> list[str]:
        """Return the paths of the fields that are held to copies, such as `slots.city`."""
        return sorted(_copied(self.form, ""))


def learned(pairs: Iterable[tuple[str, str]]) -> Extraction:
    """Learn the form from (question, answer) pairs; raise DataError where the answers are no objects, or nothing is copied."""
    form = Form()
    written: Counter[tuple[str, str]] = Counter()
    for question, answer in pairs:
        value = _object(answer)
        form.see(value, question)
        written.update(style for style in _STYLES if _dumped(value, *style) == answer)
    style, times = written.most_common(1)[0] if written else (_STYLES[0], 0)
    number = form.values
    if times < number:
        raise DataError(
            f"{number - times:,} of {number:,} training answers are not written as JSON on one line with {_dumped({'a': 1, 'b': 2}, *style)} "
            "as its marks; answers cannot be held to spans. Name the columns with --output, and Luthier writes them so, or use --constrain json."
        )
    extraction = Extraction(form, *style)
    if not extraction.copied():
        raise DataError(
            f"no field of the training answers holds copies of the question ({COPIED:.0%} of a field's values must be); "
            "answers cannot be held to spans. Use --constrain json or a schema."
        )
    return extraction


def is_copy(text: str, question: str) -> bool:
    """Tell whether a text is made of whole neighbouring pieces (words, marks, blanks) of the question."""
    place = question.find(text)
    while place >= 0 and text:
        if _at_edge(question, place) and _at_edge(question, place + len(text)):
            return True
        place = question.find(text, place + 1)
    return False


def rule(extraction: Extraction, question: str) -> str:
    """Return the grammar of the answers to one question, in llguidance's dialect of Lark, with the rule `answer` at its head."""
    pieces = [json.dumps(piece, ensure_ascii=False)[1:-1] for piece in _PIECE.findall(question[:_LONGEST_QUESTION])]
    lines = [f"SPAN: %regex {json.dumps({'substring_chunks': pieces or ['']})}"]
    names: dict[int, str] = {}

    def named(body: str, form: Form) -> str:
        name = names.setdefault(id(form), f"r{len(names)}")
        lines.append(f"{name}: {body}")
        return name

    def written(form: Form) -> str:
        return named(" | ".join(_alternatives(form, extraction, written)), form)

    return "\n".join([f"answer: {written(extraction.form)}", *lines])


def _alternatives(form: Form, extraction: Extraction, written: Callable[[Form], str]) -> list[str]:
    comma = _quoted(extraction.comma)
    found: list[str] = []
    if form.objects:
        pairs = [f"{_quoted(_dumped(key) + extraction.colon)} {written(inner)}" for key, inner in form.keys.items()]
        always = len({inner.values for inner in form.keys.values()} | {form.objects}) == 1
        body = f" {comma} ".join(pairs) if always else _repeated(" | ".join(pairs), comma, form.empty)
        found.append(f'"{{" {body} "}}"' if pairs else '"{}"')
    if form.items is not None:
        inner = written(form.items) if form.items.values else ""
        found.append(f'"[" {_repeated(inner, comma, form.empty)} "]"' if inner else '"[]"')
    if form.texts:
        found.append(_text(form))
    found += [f'%json {{"type": "{kind}"}}' for kind in sorted(form.others)]
    return found


def _text(form: Form) -> str:
    if form.is_copied:
        return r'"\"" SPAN "\""'
    if form.is_label:
        return " | ".join(_quoted(_dumped(text)) for text in form.texts)
    return '%json {"type": "string"}'


def _repeated(one: str, comma: str, may_be_empty: bool) -> str:
    many = f"({one}) ({comma} ({one}))*"
    return f"({many})?" if may_be_empty else many


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _dumped(value: JsonValue, comma: str = ", ", colon: str = ": ") -> str:
    return json.dumps(value, ensure_ascii=False, separators=(comma, colon))


def _object(answer: str) -> JsonValue:
    try:
        value = json.loads(answer)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise DataError(f"the training answer {answer[:60]!r} is no JSON object; answers cannot be held to spans.")
    return value


def _copied(form: Form, path: str) -> Iterable[str]:
    if form.texts and form.is_copied:
        yield path
    if form.items is not None:
        yield from _copied(form.items, path)
    for key, inner in form.keys.items():
        yield from _copied(inner, f"{path}.{key}".lstrip("."))


def _at_edge(question: str, place: int) -> bool:
    """Tell whether a piece begins or ends at the place."""
    return place in (0, len(question)) or not (_word(question[place - 1]) and _word(question[place]))


def _word(char: str) -> bool:
    return char.isalnum() or char == "_"
