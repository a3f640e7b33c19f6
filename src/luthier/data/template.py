"""A model's own chat template: which text it is prompted with, and which text it must answer.

Nothing here relies on `{% generation %}` marks. A trained turn is found as serving finds it: the
prompt is the template of everything before the turn with the generation prompt behind it, the
answer is what the template of the turn itself adds, up to its end-of-turn token. Where a template
does not go on from its own prompt, no text exists that would train what is served, and the row is
refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from jinja2 import TemplateError

from luthier.core.errors import ModelError
from luthier.core.types import Conversation, JsonObject, JsonValue, Message
from luthier.data.encode import Encoder, is_marked, unmark
from luthier.data.problems import RowProblem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_QUESTION: JsonObject = {"role": "user", "content": "ProbeQuestion"}
_ANSWER = "ProbeAnswer"
_REASONING = "ProbeReasoning"
_KEY = "probe_key"
_TOOL: JsonObject = {
    "type": "function",
    "function": {"name": "probe_tool", "description": "Probe.", "parameters": {"type": "object", "properties": {}}},
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One assistant turn as served: both texts are marked (see data/encode.py).

    `prompt` ends with the generation prompt; `answer` ends with the end-of-turn token.
    """

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a rendered conversation, all trained or all not; `text` is marked."""

    text: str
    trained: bool


class ChatTemplate:
    """A tokenizer's chat template, probed once for how its turns end and how it shows reasoning.

    `stop_tokens` adds the model's own (generation_config's eos_token_id) to the one that the template writes; `apply`
    renders in place of the tokenizer's own `apply_chat_template`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        enable_thinking: bool | None = None,
        stop_tokens: Sequence[int] = (),
        apply: Callable[..., object] | None = None,
    ) -> None:
        self._apply: Callable[..., object] = apply or tokenizer.apply_chat_template
        self._options: JsonObject = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
        source = tokenizer.chat_template
        self.exists = bool(source)
        self.encoder = Encoder(tokenizer, "\0".join(source.values()) if isinstance(source, dict) else source or "")
        self._arguments_as_text = False
        self._end_of_turn: frozenset[int] = frozenset()
        self._lead, self._reasoning_end, self._content_start = "", "", ""
        self._empty_thought = ""
        if self.exists:
            self._probe()
        eos = [] if tokenizer.eos_token_id is None else [cast(int, tokenizer.eos_token_id)]
        self.stop_tokens = tuple(sorted({*self._end_of_turn, *eos, *stop_tokens}))
        stops = "|".join(map(re.escape, self._stop_texts()))
        # Some templates write the end of the text behind the last end of turn, where a served answer has stopped.
        self._ending = re.compile(rf"(?:{stops})(?=(?:\s|{stops})*\Z)")

    @property
    def lead(self) -> str:
        """What the template writes between its prompt and the content of an answer."""
        return self._lead

    def turns(self, conversation: Conversation) -> list[Turn]:
        """Return the trained assistant turns in order; raise RowProblem where one cannot be rendered as served."""
        self._require_end_of_turn()
        messages, tools = self._prepared(conversation.messages, conversation.tools)
        return [
            self._turn(messages[:index], messages[index], tools)
            for index, message in enumerate(conversation.messages)
            if message.role == "assistant" and message.weight > 0
        ]

    def segments(self, conversation: Conversation) -> list[Segment]:
        """Return the whole conversation as stretches: messages of weight 0 are not trained, all else is."""
        messages, tools = self._prepared(conversation.messages, conversation.tools)
        whole = self._render(messages, tools)
        segments: list[Segment] = []
        position = 0
        for index, message in enumerate(conversation.messages):
            if message.weight > 0:
                continue
            start, end = (self._length_of_start(whole, messages[:stop], tools) for stop in (index, index + 1))
            segments += [Segment(whole[position:start], True), Segment(whole[start:end], False)]
            position = end
        segments.append(Segment(whole[position:], True))
        return [segment for segment in segments if segment.text]

    def document(self, text: str) -> str:
        """Return a plain document with its control tokens marked as text."""
        return str(self.encoder.mark(text))

    def prompt(self, messages: Sequence[Message], tools: Sequence[JsonObject] = ()) -> str:
        """Return what the model is served for these messages, generation prompt included; marked."""
        return self._render(*self._prepared(messages, tools), generation=True)

    def request(self, messages: Sequence[Message], tools: Sequence[JsonObject] = ()) -> JsonObject:
        """Return `messages`, `tools` and `options` as any other program hands them to `apply_chat_template`.

        Raises RowProblem where they hold control tokens, which other programs would not read as text.
        """
        prepared, marked = self._prepared(messages, tools)
        if is_marked(json.dumps([prepared, marked], ensure_ascii=False)):
            raise RowProblem("control-token-in-text", "a message holds the text of a control token.")
        return {"messages": [*prepared], "tools": [*marked], "options": dict(self._options)}

    def unrender(self, tokens: Sequence[int]) -> str:
        """Return the content of an answer: without end-of-turn token, reasoning and what the template puts in front."""
        end = len(tokens)
        while end and tokens[end - 1] in self.stop_tokens:
            end -= 1
        text = self.encoder.decode_after(tokens[:end])
        if self._reasoning_end and self._reasoning_end in text:
            _, _, content = text.partition(self._reasoning_end)
            return content.removeprefix(self._content_start)
        return text.removeprefix(self._lead)

    def _turn(self, before: list[JsonObject], message: JsonObject, tools: list[JsonObject]) -> Turn:
        prompt = self._render(before, tools, generation=True)
        full = self._render([*before, message], tools)
        shown = prompt if "reasoning_content" in message else self._without_empty_thought(prompt, full)
        if not full.startswith(shown):
            raise _differs(prompt, full)
        answer = full[len(shown) :]
        ending = self._ending.search(answer)
        if ending is None:
            raise RowProblem(
                "end-of-turn-not-trained",
                f"the template ends this turn with {unmark(answer)[-30:]!r}, and none of the stop tokens "
                f"{self._stop_texts()} stands there, so that the model would never learn to stop.",
            )
        return Turn(prompt, answer[: ending.end()])

    def _without_empty_thought(self, prompt: str, full: str) -> str:
        return prompt if full.startswith(prompt) else prompt.removesuffix(self._empty_thought)

    def _length_of_start(self, whole: str, messages: list[JsonObject], tools: list[JsonObject]) -> int:
        start = self._render(messages, tools) if messages else ""
        if not whole.startswith(start):
            raise _differs(start, whole)
        return len(start)

    def _render(
        self,
        messages: list[JsonObject],
        tools: list[JsonObject],
        *,
        generation: bool = False,
        options: JsonObject | None = None,
    ) -> str:
        if not self.exists:
            raise ModelError(
                "the model has no chat template (chat_template.jinja), so conversations cannot be rendered. Choose "
                "an instruction-tuned model, or put a template into the model's folder; plain text needs none."
            )
        try:
            return str(
                self._apply(
                    messages,
                    tools=tools or None,
                    tokenize=False,
                    add_generation_prompt=generation,
                    **(self._options if options is None else options),
                )
            )
        except (TemplateError, TypeError, KeyError, ValueError) as error:
            raise RowProblem(
                "template-failed", f"the model's chat template refuses this conversation: {unmark(str(error))}"
            ) from error

    def _prepared(
        self, messages: Sequence[Message], tools: Sequence[JsonObject]
    ) -> tuple[list[JsonObject], list[JsonObject]]:
        """Return messages and tools as the template takes them, with control tokens marked."""
        return [self._message(message) for message in messages], [self._marked(tool) for tool in tools]

    def _message(self, message: Message) -> JsonObject:
        answer = message.role == "assistant"
        fields = message.as_dict()
        fields.pop("weight", None)
        if message.tool_calls:
            fields["tool_calls"] = [self._marked(self._call(call)) for call in message.tool_calls]
        for name in ("content", "reasoning_content", "name", "tool_call_id"):
            if name in fields:
                fields[name] = self.encoder.mark(fields[name], answer=answer)
        return fields

    def _marked(self, value: JsonObject) -> JsonObject:
        marked = self.encoder.mark(value)
        assert isinstance(marked, dict)
        return marked

    def _call(self, call: JsonObject) -> JsonObject:
        """OpenAI writes arguments as a JSON text; most templates want the object itself."""
        function = call.get("function")
        if not isinstance(function, dict):
            return call
        arguments = function.get("arguments")
        if self._arguments_as_text and not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        elif not self._arguments_as_text and isinstance(arguments, str):
            arguments = _as_object(arguments)
        return {**call, "function": {**function, "arguments": arguments}}

    def _probe(self) -> None:
        plain = self._probe_render({"role": "assistant", "content": _ANSWER})
        self._end_of_turn = self._first_control_token(plain.rpartition(_ANSWER)[2])
        self._probe_tool_calls()
        self._probe_reasoning()
        self._probe_empty_thought()

    def _probe_tool_calls(self) -> None:
        for as_text in (False, True):
            arguments: JsonValue = json.dumps({_KEY: "x"}) if as_text else {_KEY: "x"}
            function: JsonObject = {"name": "probe_tool", "arguments": arguments}
            call: JsonObject = {"id": "probe00id", "type": "function", "function": function}
            text = self._probe_render({"role": "assistant", "content": "", "tool_calls": [call]}, [_TOOL])
            behind = text.rpartition(_KEY)[2]
            if behind.startswith('"'):
                self._arguments_as_text = as_text
                self._end_of_turn |= self._last_special_token(behind)
                return

    def _probe_reasoning(self) -> None:
        prompt = self._probe_render(None)
        plain = self._probe_render({"role": "assistant", "content": _ANSWER})
        if prompt and plain.startswith(prompt):
            self._lead = plain[len(prompt) :].partition(_ANSWER)[0]
        reasoned = self._probe_render({"role": "assistant", "content": _ANSWER, "reasoning_content": _REASONING})
        between = reasoned.partition(_REASONING)[2].partition(_ANSWER)[0]
        if between.strip():
            self._reasoning_end = between.strip()
            self._content_start = between[len(between.rstrip()) :]

    def _probe_empty_thought(self) -> None:
        """Find what the generation prompt writes only to say that there will be no thinking.

        Some templates leave this closed, empty thought out of the turns that they render (Gemma 4). The answer goes
        on from it all the same. A thought that is opened for the model to fill is there with thinking on, too.
        """
        prompt, plain = self._probe_render(None), self._probe_render({"role": "assistant", "content": _ANSWER})
        at = _first_difference(prompt, plain)
        thinking = self._probe_render(None, options={"enable_thinking": True})
        if plain[at:].startswith(_ANSWER) and thinking and not thinking.endswith(prompt[at:]):
            self._empty_thought = prompt[at:]

    def _probe_render(
        self, answer: JsonObject | None, tools: Sequence[JsonObject] = (), options: JsonObject | None = None
    ) -> str:
        """Render a question and perhaps an answer; a template that refuses it renders to nothing."""
        try:
            if answer is None:
                return self._render([_QUESTION], list(tools), generation=True, options=options)
            return self._render([_QUESTION, answer], list(tools))
        except RowProblem:
            return ""

    def _first_control_token(self, text: str) -> frozenset[int]:
        found = ((text.find(token), -len(token), id) for id, token in self.encoder.added.items() if token in text)
        visible = [item for item in found if not self.encoder.added[item[2]].isspace()]
        return frozenset({min(visible)[2]}) if visible else frozenset()

    def _last_special_token(self, text: str) -> frozenset[int]:
        text, added = text.rstrip(), self.encoder.added
        return frozenset(id for id in added if added[id] in self.encoder.special and text.endswith(added[id]))

    def _stop_texts(self) -> list[str]:
        return [self.encoder.added[id] for id in self.stop_tokens if id in self.encoder.added] or ["\0"]

    def _require_end_of_turn(self) -> None:
        if self.exists and not self._end_of_turn:
            raise RowProblem(
                "end-of-turn-not-trained",
                "the model's chat template writes no control token behind an answer, so that the model would "
                "never learn to stop. Choose a model whose template ends its turns.",
            )


def _as_object(arguments: str) -> JsonValue:
    try:
        value = json.loads(arguments)
    except json.JSONDecodeError:
        return arguments
    return value if isinstance(value, dict) else arguments


def _first_difference(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _differs(prompt: str, full: str) -> RowProblem:
    prompt, full = unmark(prompt), unmark(full)
    at = _first_difference(prompt, full)
    return RowProblem(
        "cannot-render-as-served",
        f"the chat template does not go on from its own prompt: at character {at} the prompt has "
        f"{prompt[at : at + 40]!r} and the trained text {full[at : at + 40]!r}.",
    )
