"""Rows to token sequences: exactly the assistant's text and its end-of-turn token are trained.

A prompt is encoded alone and the answer behind it, as at serving. While a later turn's prompt begins
with the tokens of the earlier prompt and answer, the turns share one sequence. Where the template
rewrites history (thinking stripped from earlier turns) or the tokenizer merges across the boundary,
the turn becomes a sequence of its own.

L is the length of a sequence in tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from luthier.core.types import Content, Conversation, JsonObject, Message, Preference, Rendered, Row, Text
from luthier.data.asked import BeyondLimits, Rendering
from luthier.data.problems import RowProblem
from luthier.data.template import ChatTemplate
from luthier.data.turns import Segment, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Objective = Literal["sft", "text"]
Truncate = Literal["drop", "start", "end"]
_ROWS_AT_ONCE = 512
_STAND_INS = ("Stand-in", "+Stand-in")


@dataclass(frozen=True, slots=True)
class _Sequence:
    """A sequence while it is put together; `trained` is aligned with `tokens`."""

    tokens: list[int]
    trained: list[bool]
    lost: int = 0


@dataclass(frozen=True, slots=True)
class _Draft:
    """A row as texts, before they are encoded: turns, or segments that make up a whole text.

    A document gets the tokenizer's beginning and end of text around it.
    """

    turns: tuple[Turn, ...] = ()
    segments: tuple[Segment, ...] = ()
    document: bool = False

    def texts(self) -> Iterator[tuple[bool, str]]:
        """Yield each text, with whether it continues a sequence."""
        for turn in self.turns:
            yield from ((False, turn.prompt), (True, turn.answer))
        for index, segment in enumerate(self.segments):
            yield (index > 0, segment.text)


_Tokens = dict[tuple[bool, str], list[int]]


class Renderer:
    """Renders rows with one tokenizer, its chat template and one longest length."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        truncate: Truncate = "drop",
        enable_thinking: bool | None = None,
        stop_tokens: Sequence[int] = (),
        rendering: Rendering | None = None,
    ) -> None:
        self.template = ChatTemplate(
            tokenizer, enable_thinking=enable_thinking, stop_tokens=stop_tokens, rendering=rendering
        )
        self.stop_tokens = self.template.stop_tokens
        self._max_length = max_length
        self._truncate = truncate
        self._encoder = self.template.encoder
        self._bos = cast("int | None", tokenizer.bos_token_id)
        self._end = _end_of_text(tokenizer)

    def render(self, row: Row, objective: Objective) -> list[Rendered]:
        """Return the row's sequences; raise RowProblem where the row cannot be trained as it will be served."""
        (result,) = self.render_many([row], objective)
        if isinstance(result, RowProblem):
            raise result
        return result

    def render_many(self, rows: Sequence[Row], objective: Objective) -> list[list[Rendered] | RowProblem]:
        """Render rows together: their texts are made in one go and encoded in one batch; a problem stands in its row's place.

        Raises BeyondLimits, which names the row, where the chat template takes more for one than it is allowed.
        """
        try:
            drafts = self._drafts([row.content for row in rows], objective)
            tokens = self._encode([draft for draft in drafts if isinstance(draft, _Draft)])
        except (RowProblem, BeyondLimits) as problem:
            if len(rows) > 1:
                return [self.render_many([row], objective)[0] for row in rows]
            if isinstance(problem, BeyondLimits):
                raise _naming(rows[0], problem) from problem
            return [problem]
        return [self._finish(row, draft, tokens) for row, draft in zip(rows, drafts)]

    def prompt(self, messages: Sequence[Message], tools: Sequence[JsonObject] = ()) -> list[int]:
        """Return the tokens that the model is served for these messages, the same as in training."""
        (tokens,) = self._encoder.encode([self.template.prompt(messages, tools)])
        self._check_bos(tokens)
        return tokens

    def request(self, messages: Sequence[Message], tools: Sequence[JsonObject] = ()) -> JsonObject:
        """Return what any other program hands to `apply_chat_template` for the same prompt.

        Raises RowProblem where a message holds control tokens, which other programs would not read as text.
        """
        return self.template.request(messages, tools)

    def unrender(self, tokens: Sequence[int]) -> str:
        """Return the content of an answer from its tokens."""
        return self.template.unrender(tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return an answer's text as the model wrote it, reasoning and control tokens included."""
        return self._encoder.decode_after(tokens)

    def _drafts(self, contents: Sequence[Content], objective: Objective) -> list[_Draft | RowProblem]:
        """Return the texts of each row; all conversations go through the template together."""
        chats = [content for content in contents if isinstance(content, Conversation)]
        found = iter(self._chats(chats, objective) if chats else ())
        return [
            next(found) if isinstance(content, Conversation) else self._draft(content, objective)
            for content in contents
        ]

    def _chats(self, chats: Sequence[Conversation], objective: Objective) -> list[_Draft | RowProblem]:
        if objective == "text":
            return [
                one if isinstance(one, RowProblem) else _Draft(segments=tuple(one))
                for one in self.template.segments(chats)
            ]
        return [one if isinstance(one, RowProblem) else _Draft(turns=tuple(one)) for one in self.template.turns(chats)]

    def _draft(self, content: Text | Preference, objective: Objective) -> _Draft | RowProblem:
        if isinstance(content, Text):
            return _Draft(segments=(Segment(self.template.document(content.text), True),), document=True)
        return RowProblem("wrong-objective", f"{objective!r} cannot train a preference pair.")

    def _encode(self, drafts: Iterable[_Draft]) -> _Tokens:
        """Encode every text of the drafts once; the key says whether it continues a sequence."""
        keys = dict.fromkeys(key for draft in drafts for key in draft.texts())
        starts, afters = ([text for after, text in keys if after is wanted] for wanted in (False, True))
        tokens = {(False, text): ids for text, ids in zip(starts, self._encoder.encode(starts))}
        return tokens | {(True, text): ids for text, ids in zip(afters, self._encoder.encode_after(afters))}

    def _finish(self, row: Row, draft: _Draft | RowProblem, tokens: _Tokens) -> list[Rendered] | RowProblem:
        if isinstance(draft, RowProblem):
            return draft
        try:
            return self._checked(row, self._sequences(row, draft, tokens))
        except RowProblem as problem:
            return problem
        except BeyondLimits as problem:  # a row that is cut is rendered again
            raise _naming(row, problem) from problem

    def _sequences(self, row: Row, draft: _Draft, tokens: _Tokens) -> list[_Sequence]:
        if draft.segments:
            return self._windows(self._whole(draft, tokens))
        return self._fit(row, _join(draft.turns, tokens)) if draft.turns else []

    def _checked(self, row: Row, sequences: list[_Sequence]) -> list[Rendered]:
        rendered = [_rendered(row, sequence) for sequence in sequences]
        if not any(item.num_trained for item in rendered):
            raise RowProblem(
                "no-trained-token",
                "no token of the row would be trained: it has no assistant turn of weight above 0, or none within "
                "the longest length.",
            )
        for sequence in sequences:
            self._check_bos(sequence.tokens)
        return _without_untrained(rendered)

    def _whole(self, draft: _Draft, tokens: _Tokens) -> _Sequence:
        whole = _Sequence([], [])
        for key, segment in zip(draft.texts(), draft.segments):
            whole.tokens.extend(tokens[key])
            whole.trained.extend([segment.trained] * len(tokens[key]))
        if draft.document:
            head = [] if self._bos is None or self._bos == self._end else [self._bos]
            tail = [] if self._end is None else [self._end]
            whole = _Sequence([*head, *whole.tokens, *tail], [True] * (len(head) + len(whole.tokens) + len(tail)))
        return whole

    def _windows(self, whole: _Sequence) -> list[_Sequence]:
        """Cut a long text into windows side by side; a last window of one token predicts nothing and is lost."""
        size = self._max_length
        windows = [
            _Sequence(whole.tokens[at : at + size], whole.trained[at : at + size])
            for at in range(0, len(whole.tokens), size)
        ]
        if len(windows) > 1 and len(windows[-1].tokens) == 1:
            windows.pop()
            windows[-1] = replace(windows[-1], lost=1)
        return windows

    def _fit(self, row: Row, sequences: list[_Sequence]) -> list[_Sequence]:
        longest = max(len(sequence.tokens) for sequence in sequences)
        if longest <= self._max_length:
            return sequences
        if self._truncate == "end":
            return [self._without_end(sequence) for sequence in sequences]
        if self._truncate == "start":
            return self._without_start(row, sequences)
        raise self._too_long(longest, "Raise train.max_length, or set train.truncate to start.")

    def _without_end(self, sequence: _Sequence) -> _Sequence:
        size = self._max_length
        return _Sequence(sequence.tokens[:size], sequence.trained[:size], max(0, len(sequence.tokens) - size))

    def _without_start(self, row: Row, sequences: list[_Sequence]) -> list[_Sequence]:
        """Leave out the oldest whole turns; where the last question alone is too long, cut into its start."""
        assert isinstance(row.content, Conversation)
        before = sum(len(sequence.tokens) for sequence in sequences)
        conversation = row.content
        for conversation in _shorter(row.content):
            (draft,) = self._chats([conversation], "sft")
            if isinstance(draft, RowProblem):
                raise draft
            sequences = _join(draft.turns, self._encode([draft]))
            if all(len(sequence.tokens) <= self._max_length for sequence in sequences):
                break
        else:
            sequences = [self._without_question_start(conversation, sequence) for sequence in sequences]
        lost = before - sum(len(sequence.tokens) for sequence in sequences)
        return [replace(sequences[0], lost=lost), *sequences[1:]]

    def _without_question_start(self, conversation: Conversation, sequence: _Sequence) -> _Sequence:
        cut = len(sequence.tokens) - self._max_length
        if cut <= 0:
            return sequence
        head = self._tokens_before_question(conversation, sequence)
        if head + cut > sequence.trained.index(True):
            raise self._too_long(len(sequence.tokens), "The answer alone does not fit; raise train.max_length.")
        kept = slice(head + cut, None)
        return _Sequence(
            sequence.tokens[:head] + sequence.tokens[kept], sequence.trained[:head] + sequence.trained[kept]
        )

    def _tokens_before_question(self, conversation: Conversation, sequence: _Sequence) -> int:
        """Count the tokens that do not change when the first question begins with something else."""
        at = next((i for i, message in enumerate(conversation.messages) if message.role == "user"), None)
        if at is None:
            return 0
        question = conversation.messages[at]
        stand_in = next(text for text in _STAND_INS if not question.content.startswith(text[0]))
        messages = (*conversation.messages[:at], replace(question, content=stand_in))
        other = self.prompt(messages, conversation.tools)
        return next(i for i, (a, b) in enumerate(zip(sequence.tokens, other)) if a != b)

    def _too_long(self, length: int, advice: str) -> RowProblem:
        return RowProblem("too-long", f"the row has {length} tokens, and at most {self._max_length} fit. {advice}")

    def _check_bos(self, tokens: Sequence[int]) -> None:
        if self._bos is not None and list(tokens[:2]) == [self._bos, self._bos]:
            raise RowProblem(
                "doubled-bos",
                "the sequence begins with the beginning-of-text token twice, which the model has never seen; the "
                "chat template writes it twice.",
            )


def render_all(
    rows: Iterable[Row], renderer: Renderer, objective: Objective
) -> Iterator[tuple[Row, list[Rendered] | RowProblem]]:
    """Render rows in order, some hundred at a time; a row that cannot be rendered comes with its problem."""
    waiting = iter(rows)
    while chunk := list(islice(waiting, _ROWS_AT_ONCE)):
        yield from zip(chunk, renderer.render_many(chunk, objective))


def _naming(row: Row, problem: BeyondLimits) -> BeyondLimits:
    return BeyondLimits(f"{row.file}:{row.line} (row {row.id}): {problem} Or leave out this row, or make it shorter.")


def _join(turns: Sequence[Turn], tokens: _Tokens) -> list[_Sequence]:
    """Put turns into as few sequences as serve each of them its own prompt, token by token."""
    sequences: list[_Sequence] = []
    for turn in turns:
        prompt, answer = tokens[False, turn.prompt], tokens[True, turn.answer]
        earlier: list[bool] = []
        if sequences and prompt[: len(sequences[-1].tokens)] == sequences[-1].tokens:
            earlier = sequences.pop().trained
        untrained = [False] * (len(prompt) - len(earlier))
        sequences.append(_Sequence(prompt + answer, earlier + untrained + [True] * len(answer)))
    return sequences


def _shorter(conversation: Conversation) -> Iterator[Conversation]:
    """Yield the conversation from its second, third ... question on, system messages kept; at least itself."""
    messages = conversation.messages
    start = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    questions = [i for i in range(start + 1, len(messages)) if messages[i].role == "user"]
    last_answer = max(i for i, message in enumerate(messages) if message.role == "assistant" and message.weight > 0)
    yield conversation
    for question in questions:
        if question < last_answer:
            yield replace(conversation, messages=messages[:start] + messages[question:])


def _rendered(row: Row, sequence: _Sequence) -> Rendered:
    weight_L = np.array(sequence.trained, dtype=np.float32)
    weight_L[:1] = 0
    return Rendered(row.id, np.array(sequence.tokens, dtype=np.int32), weight_L, sequence.lost)


def _without_untrained(rendered: list[Rendered]) -> list[Rendered]:
    """Leave out sequences that a cut has left without a target; their tokens count as lost."""
    kept = [item for item in rendered if item.num_trained]
    lost = sum(item.lost_tokens + len(item.tokens_L) for item in rendered if not item.num_trained)
    return [replace(kept[0], lost_tokens=kept[0].lost_tokens + lost), *kept[1:]]


def _end_of_text(tokenizer: PreTrainedTokenizerBase) -> int | None:
    vocabulary = tokenizer.get_vocab()
    return cast("int | None", vocabulary.get("<|endoftext|>", tokenizer.eos_token_id))
