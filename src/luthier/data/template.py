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
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, TypeVar, cast

from luthier.core.errors import ModelError
from luthier.core.hashing import text_hash
from luthier.core.types import Conversation, JsonObject, JsonValue, Message
from luthier.data.asked import Asked, Rendering, directly
from luthier.data.call_format import PROBE_ID, PROBE_TOOLS, CallFormat, call_format, probe_calls
from luthier.data.encode import Encoder, is_marked, unmark
from luthier.data.problems import RowProblem
from luthier.data.turns import (
    Segment,
    Turn,
    answered,
    check_calls,
    differs,
    first_difference,
    length_of_start,
    text_of,
    untrained,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_Found = TypeVar("_Found")
_QUESTION: JsonObject = {"role": "user", "content": "ProbeQuestion"}
_ANSWER = "ProbeAnswer"
_REASONING = "ProbeReasoning"
_KEY = "probe_key"
_LONG_ID = "call_" + "0" * 24  # as OpenAI writes ids


class ChatTemplate:
    """A tokenizer's chat template, probed once for how its turns end and how it shows reasoning.

    `stop_tokens` adds the model's own (generation_config's eos_token_id) to the one that the template writes; `rendering`
    renders in place of the tokenizer's own `apply_chat_template` in this process.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        enable_thinking: bool | None = None,
        stop_tokens: Sequence[int] = (),
        rendering: Rendering | None = None,
    ) -> None:
        self._rendering = rendering or directly(tokenizer.apply_chat_template)
        self._options: JsonObject = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
        source = tokenizer.chat_template
        self.exists = bool(source)
        self.encoder = Encoder(tokenizer, "\0".join(source.values()) if isinstance(source, dict) else source or "")
        self._arguments_as_text = self._short_ids = False
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

    @cached_property
    def calls(self) -> CallFormat | None:
        """How an answer calls tools; None where the template writes no JSON objects, or ends of turn among them."""
        one, two = self._probe_calls(1), self._probe_calls(2)
        if one is None or any(stop in one for stop in self._stop_texts()):
            return None
        return call_format(self._lead, one, two)

    def turns(self, conversations: Sequence[Conversation]) -> list[list[Turn] | RowProblem]:
        """Return the trained assistant turns of each conversation in order, or why one cannot be rendered as served."""
        return self._each(conversations, self._asked_for_turns, self._turns)

    def segments(self, conversations: Sequence[Conversation]) -> list[list[Segment] | RowProblem]:
        """Return each conversation as stretches: messages of weight 0 are not trained, all else is."""
        return self._each(conversations, self._asked_for_segments, self._segments)

    def document(self, text: str) -> str:
        """Return a plain document with its control tokens marked as text."""
        return str(self.encoder.mark(text))

    def prompt(self, messages: Sequence[Message], tools: Sequence[JsonObject] = ()) -> str:
        """Return what the model is served for these messages, generation prompt included; marked."""
        return self._render_one(Asked(*self._prepared(messages, tools), True, self._options))

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

    def _each(
        self,
        conversations: Sequence[Conversation],
        ask: Callable[[Conversation], list[Asked]],
        read: Callable[[Conversation, Iterator[str]], list[_Found]],
    ) -> list[list[_Found] | RowProblem]:
        """Have all that is asked rendered together, and read of each conversation what came back for it."""
        asked = [ask(conversation) for conversation in conversations]
        texts = iter(self._render([one for many in asked for one in many]))

        def found(conversation: Conversation, own: list[str | RowProblem]) -> list[_Found] | RowProblem:
            try:
                return read(conversation, map(text_of, own))
            except RowProblem as problem:
                return problem

        return [found(one, list(islice(texts, len(many)))) for one, many in zip(conversations, asked)]

    def _asked_for_turns(self, conversation: Conversation) -> list[Asked]:
        messages, tools = self._prepared(conversation.messages, conversation.tools)
        return [
            Asked(messages[: index + more], tools, not more, self._options)
            for index in answered(conversation)
            for more in (0, 1)
        ]

    def _turns(self, conversation: Conversation, texts: Iterator[str]) -> list[Turn]:
        self._require_end_of_turn()
        return [self._turn(conversation.messages[index], next(texts), next(texts)) for index in answered(conversation)]

    def _asked_for_segments(self, conversation: Conversation) -> list[Asked]:
        messages, tools = self._prepared(conversation.messages, conversation.tools)
        ends = [len(messages), *(index + more for index in untrained(conversation) for more in (0, 1) if index + more)]
        return [Asked(messages[:end], tools, False, self._options) for end in ends]

    def _segments(self, conversation: Conversation, texts: Iterator[str]) -> list[Segment]:
        whole = next(texts)
        segments: list[Segment] = []
        position = 0
        for index in untrained(conversation):
            start = length_of_start(whole, next(texts) if index else "")
            end = length_of_start(whole, next(texts))
            segments += [Segment(whole[position:start], True), Segment(whole[start:end], False)]
            position = end
        segments.append(Segment(whole[position:], True))
        return [segment for segment in segments if segment.text]

    def _turn(self, message: Message, prompt: str, full: str) -> Turn:
        shown = prompt if message.reasoning is not None else self._without_empty_thought(prompt, full)
        if not full.startswith(shown):
            raise differs(prompt, full)
        answer = full[len(shown) :]
        ending = self._ending.search(answer)
        if ending is None:
            raise RowProblem(
                "end-of-turn-not-trained",
                f"the template ends this turn with {unmark(answer)[-30:]!r}, and none of the stop tokens "
                f"{self._stop_texts()} stands there, so that the model would never learn to stop.",
            )
        check_calls(message, answer)
        return Turn(prompt, answer[: ending.end()])

    def _without_empty_thought(self, prompt: str, full: str) -> str:
        return prompt if full.startswith(prompt) else prompt.removesuffix(self._empty_thought)

    def _render(self, asked: Sequence[Asked]) -> list[str | RowProblem]:
        """Return a text for each rendering, or why the template refuses it."""
        if not self.exists:
            raise ModelError(
                "the model has no chat template (chat_template.jinja), so conversations cannot be rendered. Choose "
                "an instruction-tuned model, or put a template into the model's folder; plain text needs none."
            )
        return [
            found
            if isinstance(found, str)
            else RowProblem(
                "template-failed", f"the model's chat template refuses this conversation: {unmark(str(found))}"
            )
            for found in self._rendering(asked)
        ]

    def _render_one(self, asked: Asked) -> str:
        (found,) = self._render([asked])
        return text_of(found)

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
        if "tool_call_id" in fields:
            fields["tool_call_id"] = self._call_id(str(fields["tool_call_id"]))
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
        named: JsonObject = {"id": self._call_id(call["id"])} if isinstance(call.get("id"), str) else {}
        return {**call, **named, "function": {**function, "arguments": arguments}}

    def _call_id(self, name: JsonValue) -> str:
        """Return an id as the template takes it: some refuse all that are not nine letters and digits (Mistral)."""
        text = str(name)
        return text_hash(text)[: len(PROBE_ID)] if self._short_ids and len(text) != len(PROBE_ID) else text

    def _probe(self) -> None:
        plain = self._probe_render({"role": "assistant", "content": _ANSWER})
        self._end_of_turn = self._first_control_token(plain.rpartition(_ANSWER)[2])
        self._probe_tool_calls()
        self._probe_reasoning()
        self._probe_empty_thought()

    def _probe_tool_calls(self) -> None:
        for as_text in (False, True):
            arguments: JsonValue = json.dumps({_KEY: "x"}) if as_text else {_KEY: "x"}
            behind = self._probe_call(PROBE_ID, arguments)
            if behind.startswith('"'):
                self._arguments_as_text = as_text
                self._short_ids = not self._probe_call(_LONG_ID, arguments)
                self._end_of_turn |= self._last_special_token(behind)
                return

    def _probe_call(self, name: str, arguments: JsonValue) -> str:
        """Return what is rendered behind the key of a call's arguments; nothing where the call is refused."""
        function: JsonObject = {"name": "probe_tool", "arguments": arguments}
        call: JsonObject = {"id": name, "type": "function", "function": function}
        text = self._probe_render({"role": "assistant", "content": "", "tool_calls": [call]}, PROBE_TOOLS)
        return text.rpartition(_KEY)[2]

    def _probe_calls(self, number: int) -> str | None:
        """Return the answer that holds the probe's calls as it is trained and served, without the end of its turn."""
        messages = (Message("user", "ProbeQuestion"), Message("assistant", "", tool_calls=tuple(probe_calls(number))))
        (turns,) = self.turns([Conversation(messages, PROBE_TOOLS)]) if self.exists else [[]]
        if isinstance(turns, RowProblem) or not turns:
            return None
        ending = self._ending.search(turns[0].answer)
        return turns[0].answer if ending is None else turns[0].answer[: ending.start()]

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
        at = first_difference(prompt, plain)
        thinking = self._probe_render(None, options={"enable_thinking": True})
        if plain[at:].startswith(_ANSWER) and thinking and not thinking.endswith(prompt[at:]):
            self._empty_thought = prompt[at:]

    def _probe_render(
        self, answer: JsonObject | None, tools: Sequence[JsonObject] = (), options: JsonObject | None = None
    ) -> str:
        """Render a question and perhaps an answer; a template that refuses it renders to nothing."""
        try:
            messages = [_QUESTION] if answer is None else [_QUESTION, answer]
            chosen = self._options if options is None else options
            return self._render_one(Asked(messages, list(tools), answer is None, chosen))
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
