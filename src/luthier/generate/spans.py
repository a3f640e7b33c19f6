"""Hold answers to what extraction is: the objects of the training answers, their texts copied out of the question.

The form is learned from (question, answer) pairs: which keys an object has, which texts are copies of words of the
question, which are one of a few. A field whose training values are all copies can then only be answered with
neighbouring words of the question that is asked. Keys come in any order, as often as the model wants: what this holds
to is where the values come from, not which fields an answer should have.
"""

import json
from collections.abc import Callable

from luthier.data.copied import PIECE, Extraction, Form, dumped

_LONGEST_QUESTION = 20_000


def rule(extraction: Extraction, question: str) -> str:
    """Return the grammar of the answers to one question, in llguidance's dialect of Lark, with the rule `answer` at its head."""
    pieces = [json.dumps(piece, ensure_ascii=False)[1:-1] for piece in PIECE.findall(question[:_LONGEST_QUESTION])]
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
        pairs = [f"{_quoted(dumped(key) + extraction.colon)} {written(inner)}" for key, inner in form.keys.items()]
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
        return " | ".join(_quoted(dumped(text)) for text in form.texts)
    return '%json {"type": "string"}'


def _repeated(one: str, comma: str, may_be_empty: bool) -> str:
    many = f"({one}) ({comma} ({one}))*"
    return f"({many})?" if may_be_empty else many


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
