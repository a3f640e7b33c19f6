"""How chat templates of others write tool calls, and whether they are rendered, read back and forced:

    python tests/nightly/call_templates.py FOLDER

FOLDER holds templates as `.jinja` files; docs/commands/serve.md says where people find them. Each is put on a small
tokenizer that has the template's own marks as tokens. `rendered` is a conversation with a call, the tool's answer and
the model's; `read` are one call, two calls, and a call behind a text, out of the tokens that a row of them trains;
`forced` is that the grammar of a required call takes those tokens, and none whose arguments are wrong. A word that
begins with `no` tells what is refused, and how it is told; only `FAULT` is one. Ends with 1 where there is a fault.
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from tiny_chat import byte_tokenizer
from transformers import PreTrainedTokenizerFast

from luthier.core.types import Conversation, JsonObject, Message, Row
from luthier.data.problems import RowProblem
from luthier.data.render import Renderer
from luthier.generate.calling import calling
from luthier.generate.calls import Call, CallReader
from luthier.generate.constrain import Constrainer
from luthier.generate.request import ToolChoice
from luthier.generate.stream import stream

MARKS = (r"<\|[^|<>\s]+\|?>", r"<[a-z_]+\|>", r"</?(?:start|end)_of_turn>", r"<｜[^｜]+｜>", r"\[/?[A-Z_]{2,}\]")
TAGS = r"</?(?:tool_call|think|tool_response)>"
ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<|return|>", "<end_of_turn>", "<turn|>", "<|end_of_text|>", "<|endoftext|>", "<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>")  # fmt: skip
CITY = {"type": "object", "required": ["city"], "additionalProperties": False, "properties": {"city": {"enum": ["Rome"], "type": "string", "description": "Where."}}}  # fmt: skip
TOOLS: tuple[JsonObject, ...] = tuple(
    {"type": "function", "function": {"name": name, "description": "Tells it.", "parameters": CITY}}
    for name in ("weather", "time")
)
RIGHT, OTHER, WRONG = ("weather", {"city": "Rome"}), ("time", {"city": "Rome"}), ("weather", {"city": "Oslo"})


def tokenizer_for(template: str) -> PreTrainedTokenizerFast:
    """A small tokenizer whose tokens are the template's marks too."""
    tokenizer = byte_tokenizer(template)
    marks = {mark for pattern in MARKS for mark in re.findall(pattern, template)}
    tokenizer.add_tokens(sorted(set(re.findall(TAGS, template))))
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(marks | {"<|eom_id|>"})})
    ends = [end for end in ENDS if end in template]
    tokenizer.eos_token = ends[0] if ends and "eos_token" not in template else "</s>"
    return tokenizer


def called(calls: Sequence[tuple[str, JsonObject]], content: str = "") -> tuple[Message, Message]:
    """A question, and an answer with these calls."""
    written = tuple(
        {"id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for place, (name, arguments) in enumerate(calls)
    )
    return Message("user", "How is it?"), Message("assistant", content, tool_calls=written)


def trained(renderer: Renderer, *messages: Message) -> list[int]:
    """The tokens that the last answer trains, without the end of its turn."""
    (item,) = renderer.render(Row("r", "f", 1, 1, Conversation(messages, TOOLS)), "sft")
    tokens = [token for token, weight in zip(item.tokens_L.tolist(), item.weight_L) if weight > 0]
    return tokens[:-1]


def rendered(renderer: Renderer) -> str:
    """Whether a whole conversation about a tool's answer can be trained."""
    answer = Message("tool", '{"degrees": 20}', tool_call_id="call_0")
    messages = (*called([RIGHT]), answer, Message("assistant", "Twenty degrees."))
    try:
        renderer.render(Row("r", "f", 1, 1, Conversation(messages, TOOLS)), "sft")
    except RowProblem as problem:
        return f"no: {problem}"
    return "yes"


def read(renderer: Renderer) -> str:
    """Whether calls come back as they were written."""
    format = renderer.template.calls
    if format is None:
        return "no form: calls stay text"
    lacking: list[str] = []
    for name, calls, content in (
        ("one", [RIGHT], ""),
        ("two", [RIGHT, OTHER], ""),
        ("behind text", [RIGHT], "Let me see."),
    ):
        try:
            tokens = trained(renderer, *called(calls, content))
        except RowProblem as problem:
            lacking.append(f"{name}: {problem.rule}")
            continue
        reader = CallReader(format, ("weather", "time"))
        told = [*map(reader.push, stream(tokens, renderer.decode)), reader.rest()]
        found = [call for piece in told for call in piece.calls]
        text = "".join(piece.text for piece in told).removeprefix(renderer.template.lead).strip()
        if found != [Call(tool, json.dumps(arguments)) for tool, arguments in calls]:
            return f"FAULT: {name} gives {text!r} and {found}, written was {renderer.decode(tokens)!r}"
        if text != content:
            lacking.append(f"{name}: the text is {text!r}")
    return "yes" + (f", not {'; '.join(lacking)}" if lacking else "")


def forced(renderer: Renderer, tokenizer: PreTrainedTokenizerFast) -> str:
    """Whether a required call is held to what is trained, and to the tool's schema."""
    made = calling(renderer.template.calls, TOOLS, ToolChoice(required=True), None)
    assert made is not None and made.constraint is not None
    grammar = Constrainer(tokenizer, renderer.stop_tokens, len(tokenizer), renderer.template.lead).grammar(
        made.constraint
    )
    for call, wanted in ((RIGHT, True), (WRONG, False)):
        matcher, taken = grammar.start(), True
        for token in [*trained(renderer, *called([call])), renderer.stop_tokens[0]]:
            taken = taken and bool(matcher.allowed()[token >> 3] >> (token & 7) & 1)
            if taken and token not in renderer.stop_tokens:
                matcher.accept(token)
        if taken is not wanted:
            return f"FAULT: {call} is {'refused' if wanted else 'taken'}"
    return "yes"


def main(folder: Path) -> int:
    """Print a line a template; return 1 where one has a fault."""
    faults = 0
    for path in sorted(folder.glob("*.jinja")):
        tokenizer = tokenizer_for(template := path.read_text(encoding="utf-8"))
        renderer = Renderer(tokenizer, max_length=100_000)
        told = {"rendered": rendered(renderer), "read": read(renderer)}
        if told["read"].startswith("yes"):
            told["forced"] = forced(renderer, tokenizer)
        marks = renderer.template.calls
        shown = "" if marks is None else f"  {marks.opening + marks.head!r}"
        print(
            f"{path.stem}{'' if template else ' (empty)'}: "
            + ", ".join(f"{name} {word}" for name, word in told.items())
            + shown,
            flush=True,
        )
        faults += any("FAULT" in word for word in told.values())
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
