"""Answers as OpenAI's clients read them: whole, or as the pieces of a stream; chats and plain completions."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from luthier.core.types import JsonObject, JsonValue
from luthier.generate.client import Ended
from luthier.generate.request import CallPiece, Delta, TokenLogprob
from luthier.jobs.records import new_id, now


@dataclass
class Written:
    """One choice while it is written."""

    text: str = ""
    tokens: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    calls: list[CallPiece] = field(default_factory=list[CallPiece])
    reason: str | None = None

    def add(self, delta: Delta) -> None:
        """Take a piece."""
        self.text += delta.text
        self.tokens += delta.tokens
        self.calls += delta.calls


@dataclass
class Usage:
    """The tokens that a request took: its prompt once, however many answers there are."""

    tokens_in: int = 0
    cached: int = 0
    tokens_out: int = 0

    def add(self, end: Ended) -> None:
        """Count an answer that has ended."""
        self.tokens_in = end.finished.tokens_in
        self.cached = end.finished.cached if end.finished.choice == 0 else self.cached
        self.tokens_out += len(end.finished.ids)

    def as_json(self) -> JsonObject:
        """Return the counts."""
        return {
            "prompt_tokens": self.tokens_in, "completion_tokens": self.tokens_out,
            "total_tokens": self.tokens_in + self.tokens_out, "prompt_tokens_details": {"cached_tokens": self.cached},
        }  # fmt: skip


class Form(Protocol):
    """How one kind of answers is written."""

    def whole(self, choices: Sequence[Written], usage: Usage) -> JsonObject:
        """Return the answer with all its choices."""
        ...

    def opening(self, choice: int) -> JsonObject | None:
        """Return what stands before a choice's first piece, if anything does."""
        ...

    def pieces(self, delta: Delta, before: Written) -> list[JsonObject]:
        """Return more of a choice, each piece for an event of its own; `before` is what was written of it until then."""
        ...

    def end(self, end: Ended) -> JsonObject:
        """Return the end of a choice."""
        ...

    def chunk(self, choices: list[JsonValue], usage: JsonValue) -> JsonObject:
        """Return what one event of the stream holds."""
        ...


class ChatForm:
    """Chat completions."""

    def __init__(self, model: str, logprobs: bool) -> None:
        self._head: JsonObject = {"id": new_id("chatcmpl-"), "created": now(), "model": model}
        self._logprobs = logprobs

    def whole(self, choices: Sequence[Written], usage: Usage) -> JsonObject:
        """Return a chat completion."""
        listed: list[JsonValue] = [
            {
                "index": index, "finish_reason": choice.reason, "logprobs": self._probabilities(choice.tokens),
                "message": _message(choice),
            }
            for index, choice in enumerate(choices)
        ]  # fmt: skip
        return {**self._head, "object": "chat.completion", "choices": listed, "usage": usage.as_json()}

    def opening(self, choice: int) -> JsonObject:
        """Return who speaks."""
        return _choice(choice, {"delta": {"role": "assistant", "content": ""}})

    def pieces(self, delta: Delta, before: Written) -> list[JsonObject]:
        """Return more of the content, and of the calls one piece at a time: clients of 2025 take two in one event for two calls."""
        told: list[JsonObject] = [{"content": delta.text}] if delta.text or not delta.calls else []
        for piece in delta.calls:
            told.append({"tool_calls": [_call_piece(piece)]})
        tokens = [delta.tokens, *[()] * (len(told) - 1)]
        return [
            _choice(delta.choice, {"delta": one, "logprobs": self._probabilities(of_one)})
            for one, of_one in zip(told, tokens)
        ]

    def end(self, end: Ended) -> JsonObject:
        """Return why the content ended."""
        return _choice(end.finished.choice, {"delta": {}}, end.finished.reason)

    def chunk(self, choices: list[JsonValue], usage: JsonValue) -> JsonObject:
        """Return a chat completion chunk."""
        return {**self._head, "object": "chat.completion.chunk", "choices": choices, "usage": usage}

    def _probabilities(self, tokens: Sequence[TokenLogprob]) -> JsonValue:
        return {"content": [_token(token) for token in tokens], "refusal": None} if self._logprobs else None


class CompletionForm:
    """Plain completions."""

    def __init__(self, model: str, logprobs: bool) -> None:
        self._head: JsonObject = {
            "id": new_id("cmpl-"), "object": "text_completion", "created": now(), "model": model,
        }  # fmt: skip
        self._logprobs = logprobs

    def whole(self, choices: Sequence[Written], usage: Usage) -> JsonObject:
        """Return a completion."""
        listed: list[JsonValue] = [
            self._text(index, choice.text, self._probabilities(choice.tokens, 0), choice.reason)
            for index, choice in enumerate(choices)
        ]
        return {**self._head, "choices": listed, "usage": usage.as_json()}

    def opening(self, choice: int) -> None:
        """Return nothing: nobody speaks."""

    def pieces(self, delta: Delta, before: Written) -> list[JsonObject]:
        """Return more of the text."""
        return [self._text(delta.choice, delta.text, self._probabilities(delta.tokens, len(before.text)), None)]

    def end(self, end: Ended) -> JsonObject:
        """Return why the text ended."""
        return self._text(end.finished.choice, "", None, end.finished.reason)

    def chunk(self, choices: list[JsonValue], usage: JsonValue) -> JsonObject:
        """Return a part of a completion."""
        return {**self._head, "choices": choices, "usage": usage}

    def _text(self, index: int, text: str, logprobs: JsonValue, reason: str | None) -> JsonObject:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _probabilities(self, tokens: Sequence[TokenLogprob], start: int) -> JsonValue:
        if not self._logprobs:
            return None
        offsets: list[JsonValue] = [start + sum(len(token.text) for token in tokens[:at]) for at in range(len(tokens))]
        return {
            "tokens": [token.text for token in tokens], "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [dict(token.top) for token in tokens], "text_offset": offsets,
        }  # fmt: skip


def _choice(index: int, content: JsonObject, reason: str | None = None) -> JsonObject:
    return {"index": index, "logprobs": None, **content, "finish_reason": reason}


def _message(choice: Written) -> JsonObject:
    """Return what was said; where tools are called, there is content only in so far as there is text."""
    message: JsonObject = {"role": "assistant", "content": choice.text, "refusal": None}
    if not choice.calls:
        return message
    arguments: dict[int, str] = {}
    for piece in choice.calls:
        arguments[piece.index] = arguments.get(piece.index, "") + piece.arguments
    calls: list[JsonValue] = [
        _call_piece(replace(piece, arguments=arguments[piece.index]), whole=True)
        for piece in choice.calls
        if piece.name is not None
    ]
    return {**message, "content": choice.text or None, "tool_calls": calls}


def _call_piece(piece: CallPiece, *, whole: bool = False) -> JsonObject:
    """Return a piece of a call; its first one, and a whole one, say which call it is."""
    place: JsonObject = {} if whole else {"index": piece.index}
    if piece.name is None:
        return {**place, "function": {"arguments": piece.arguments}}
    function: JsonObject = {"name": piece.name, "arguments": piece.arguments}
    return {**place, "id": piece.id, "type": "function", "function": function}


def _token(token: TokenLogprob) -> JsonObject:
    top: list[JsonValue] = [{"token": text, "logprob": logprob, "bytes": _bytes(text)} for text, logprob in token.top]
    return {"token": token.text, "logprob": token.logprob, "bytes": _bytes(token.text), "top_logprobs": top}


def _bytes(text: str) -> JsonValue:
    return list(text.encode())
