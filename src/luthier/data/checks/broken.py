"""Rows that cannot be used, by the rule that they break, and usable rows whose turns look wrong.

The reader sets a row aside rather than guess what it meant; here is why, once a rule, with the place
and for JSON the byte. Of the rows that it does read, those are named whose last word is not an
answer, whose answer is a filler, or whose tools are called without a result, and the keys that the reader
leaves out because no format knows them.

What it cannot see: turns that are swapped in a way that still alternates, keys within tools, keys beside columns that
were named, and whether an answer is true.
"""

import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

from luthier.core.types import Content, Conversation, Finding, JsonObject, Message, Rejected, Repair, Row, UnreadKey
from luthier.data.checking import Context, Dimension
from luthier.data.gathered import MOST_EXAMPLES, Fault, Gathered, shown
from luthier.data.passages import passages, turns


class Check:
    """Report the rows that the reader set aside, and read the order and the tools of those that it took."""

    dimension: ClassVar[Dimension] = "valid"
    effect: ClassVar[str] = "rows that cannot be read train nothing; turns out of place teach the wrong speaker"
    blind: ClassVar[str] = "swapped turns that still alternate, keys within tools, the truth of an answer"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._rejected = context.rejected
        self._at_key: dict[UnreadKey, array[int]] = {}
        self._found = Gathered()
        self._num_rows = 0

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Look at the row's turns; a document has none."""
        self._num_rows += 1
        for key in row.unread:
            if key in self._at_key or len(self._at_key) < _MOST_KEYS:
                self._at_key.setdefault(key, array("i")).append(position)
        for kind, example in _faults_of(row.content):
            drops = kind == "placeholder-answer"
            self._found.add(kind, row, example, Repair(row.id, "set aside", safe=False) if drops else None)
        return ()

    def end(self) -> Iterable[Finding]:
        """Report one finding a rule of the reader, then one a kind of suspicious row."""
        by_rule: defaultdict[str, list[Rejected]] = defaultdict(list)
        for row in self._rejected:
            by_rule[row.rule].append(row)
        yield from (_set_aside(rule, rows) for rule, rows in by_rule.items())
        as_label = self._found.count("placeholder-answer") > max(_LABEL_ROWS, _LABEL_SHARE * self._num_rows)
        faults = {**_FAULTS, "placeholder-answer": _FILLER_AS_LABEL} if as_label else _FAULTS
        yield from self._found.findings("broken", faults)
        yield from self._unknown_keys()

    def _unknown_keys(self) -> Iterator[Finding]:
        """Yield at most three findings: keys that look misspelled, keys of some rows, and columns of nearly all."""
        are_columns = {key for key, at in self._at_key.items() if len(at) >= _COLUMN_SHARE * self._num_rows}
        ranked = sorted(self._at_key, key=lambda key: (-len(self._at_key[key]), key))
        misspelled = [key for key in ranked if key.like is not None]
        stray = [key for key in ranked if key.like is None and key not in are_columns]
        columns = [key for key in ranked if key.like is None and key in are_columns]
        for keys, fault in ((misspelled, _MISSPELLED), (stray, _STRAY), (columns, _COLUMNS)):
            if keys:
                yield self._keys_finding(keys, fault, [key for key in keys if key not in are_columns])

    def _keys_finding(self, keys: Sequence[UnreadKey], fault: Fault, of_some_rows: Sequence[UnreadKey]) -> Finding:
        at = sorted({position for key in of_some_rows for position in self._at_key[key]})
        named = ", ".join(self._named(key) for key in keys[:_MOST_NAMED])
        more = f" and {len(keys) - _MOST_NAMED:,} more" if len(keys) > _MOST_NAMED else ""
        rows = tuple(self._context.place_at(position).id for position in at)
        detail = f"{fault.says}: {named}{more}."
        return Finding("broken", "unknown-keys", fault.severity, fault.confidence, rows, detail, fault.fix)

    def _named(self, key: UnreadKey) -> str:
        at = self._at_key[key]
        places = ", ".join(str(self._context.place_at(position)) for position in at[:MOST_EXAMPLES])
        counted = f"{len(at):,} {'row' if len(at) == 1 else 'rows'}, such as {places}"
        name = key.path.rpartition(".")[2]
        like = f" (for {key.like!r}?)" if key.like is not None and key.like != name else ""
        return f"{shown(key.path)}{like} in {counted}"


def _set_aside(rule: str, rows: Sequence[Rejected]) -> Finding:
    counted = "1 row is" if len(rows) == 1 else f"{len(rows):,} rows are"
    places = "; ".join(f"{row.file}:{row.line}: {row.detail.rstrip('.')}" for row in rows[:MOST_EXAMPLES])
    more = f"; and {len(rows) - MOST_EXAMPLES:,} more" if len(rows) > MOST_EXAMPLES else ""
    detail = f"{counted} set aside as {rule}: {places}{more}."
    fix = _FIXES.get(rule, "Mend the rows at their source, or leave them out.")
    return Finding("broken", rule, "error", 1.0, tuple(row.id for row in rows), detail, fix)


def _faults_of(content: Content) -> Iterable[tuple[str, str]]:
    marks = next(
        (match for text, _ in passages(content) if "<<<<" in text or ">>>>" in text for match in _MARKS.findall(text)),
        None,
    )
    if marks is not None:
        yield "conflict-marks", shown(marks)
    if not isinstance(content, Conversation):
        return
    messages = content.messages
    if messages[-1].role != "assistant":
        yield "ends-without-answer", f"ends with a turn of the {messages[-1].role}"
    doubled = _doubled_turn(messages)
    if doubled is not None:
        yield "turns-in-a-row", f"turns {doubled} and {doubled + 1}"
    filler = next((message for message in messages if message.role == "assistant" and is_filler(message.content)), None)
    if filler is not None:
        yield "placeholder-answer", shown(filler.content)
    yield from _tool_faults(content)


def is_filler(answer: str) -> bool:
    """Tell whether an answer is one of the words, or only dots or dashes, that tables hold where there is none."""
    bare = answer.strip() if len(answer) < _LONGEST_FILLER else ""
    return bool(bare) and (not bare.strip("-._\u2026 ") or bare.casefold().strip(".!-_[]()<> ") in _FILLERS)


def _doubled_turn(messages: Sequence[Message]) -> int | None:
    return next((at for at, (one, two) in enumerate(pairwise(messages), 1) if one.role == two.role == "user"), None)


def _tool_faults(content: Conversation) -> Iterable[tuple[str, str]]:
    messages = turns(content)
    if not any(message.tool_calls for message in messages):
        return
    for at, (calling, following) in enumerate(pairwise(messages), 1):
        if calling.tool_calls and following.role != "tool":
            yield "call-without-result", f"turn {at}"
            break
    known = {_name(tool) for tool in content.tools}
    called = {_name(call) for message in messages for call in message.tool_calls}
    if known and not called <= known:
        yield "unknown-tool", ", ".join(sorted(called - known))
    asked = {str(call["id"]) for message in messages for call in message.tool_calls if "id" in call}
    answered = {message.tool_call_id for message in messages if message.role == "tool" and message.tool_call_id}
    if asked and not answered <= asked:
        yield "result-without-call", ", ".join(sorted(answered - asked))


def _name(call: JsonObject) -> str:
    function = call.get("function")
    return str(function.get("name")) if isinstance(function, dict) else ""


_MARKS = re.compile(r"(?:<{7}|>{7}) \S{1,40}")
_LONGEST_FILLER = 24
_LABEL_ROWS, _LABEL_SHARE = 5, 0.02
_COLUMN_SHARE = 0.5
_MOST_KEYS, _MOST_NAMED = 1_000, 8
_FILLERS = frozenset(
    (
        "n/a;na;none;null;nil;nan;undefined;todo;tbd;fixme;xxx;placeholder;empty;missing;your answer here;answer here;"
        "lorem ipsum;#n/a;#value;#ref;object object"
    ).split(";")
)
_FAULTS: dict[str, Fault] = {
    "ends-without-answer": Fault(
        "warning",
        0.9,
        "end without an answer of the assistant",
        "Add the answer, or cut the row after its last answer; the turns behind it train nothing.",
    ),
    "placeholder-answer": Fault(
        "warning",
        0.7,
        "have a filler for an answer",
        "Write the answer or drop the row, unless the filler is itself one of the labels.",
    ),
    "conflict-marks": Fault(
        "warning",
        0.9,
        "hold marks of an unfinished merge",
        "Take the marks out, and look which of the two versions is right.",
    ),
    "call-without-result": Fault(
        "warning",
        0.9,
        "call a tool and go on without its result",
        "Put the result behind the call as a turn of the tool, else the model learns to make results up.",
    ),
    "unknown-tool": Fault(
        "warning",
        0.9,
        "call a tool that is not among the row's tools",
        "Add the tool's definition, or mend the name of the call.",
    ),
    "result-without-call": Fault(
        "warning", 0.9, "give the result of a call that was not made", "Mend the tool_call_id of the result."
    ),
    "turns-in-a-row": Fault(
        "info",
        0.6,
        "have two turns of the user in a row",
        "Nothing needs to be done if people write like that; look whether an answer between them was lost.",
    ),
}
_MISSPELLED = Fault(
    "warning",
    0.7,
    "Keys that look meant to be read are not",
    "Rename the key, or move its value to where the format has it; as it is, the value is left out.",
)
_STRAY = Fault(
    "info",
    0.4,
    "Some rows have keys that nothing reads",
    "Look whether they hold something that should be learned; else nothing needs to be done.",
)
_COLUMNS = Fault(
    "info",
    0.4,
    "Nearly all rows have keys that nothing reads",
    "Nothing, if they only describe the rows; what should be learned is named with --input and --output.",
)
_FILLER_AS_LABEL = Fault(
    "info",
    0.5,
    "have a filler for an answer, so many that it seems to be a label",
    "Nothing needs to be done if it is one of the labels.",
)
_FIXES: dict[str, str] = {
    "invalid-json": "Write each row as one line of strict JSON: double quotes, no comments, no trailing comma, no raw line end within a text.",
    "bad-encoding": "Write the whole file as UTF-8; these lines were written in another encoding.",
    "nan-value": "Write null, or leave the key out: NaN and Infinity are not JSON.",
    "duplicate-key": "Keep one of the two values; a reader that takes the last would lose the first in silence.",
    "not-an-object": "Write each row as a JSON object with named fields.",
    "lone-surrogate": "Get the text again from its source: half of a character was lost.",
    "empty-answer": "Write the answer or drop the row.",
    "missing-answer": "Add the answer under the key that the other rows use; look for a misspelled key.",
    "null-content": "Write the text, or drop the row.",
    "empty-prompt": "Write the question or drop the row.",
    "missing-prompt": "Add the question under the key that the other rows use.",
    "roles-out-of-order": "Put the turns in order: an optional system turn, then user and assistant by turns.",
    "unknown-role": "Name the speaker system, user, assistant or tool.",
    "missing-role": "Say who speaks: system, user, assistant or tool.",
    "no-assistant-turn": "Add the answer that should be learned, or drop the row.",
    "no-trained-turn": "Give the turn that should be learned the weight 1, or drop the row.",
    "truncated-file": "Get the file again: its end is missing.",
    "damaged-file": "Get the file again: it is damaged from this place on.",
    "wrong-columns": "Put cells that hold the delimiter into quotes, and write as many cells as the header has.",
    "unclosed-quote": "Close the quote; a quote within a cell is written twice.",
    "stray-quote": "Write a quote within a cell twice.",
    "repeated-header": "Take the header out; it came in where files were put together.",
    "too-deep": "Write the row flatter, or as text.",
    "too-long-line": "Cut the row into several; look for a missing line end.",
}
