"""What an answer must be: one of some texts, JSON, JSON of a schema, copies of the question in JSON, a text that a pattern
describes, or calls of tools.

llguidance tells before every token which tokens may come; all others lose their logits, and a stop token may come
only where the answer is whole. What the model would have said anyway stays as it was. An answer that is cut at its
budget is not whole: its `finish_reason` is `length`.

The keys of an object come in the order of the schema's `properties`. What llguidance cannot hold to (`not`,
`uniqueItems` and some others) is refused by name, not left out.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, regex_to_lark
from llguidance.hf import from_tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from luthier.core.errors import RunFailed, SettingsError
from luthier.core.types import JsonObject
from luthier.data.call_format import CallFormat
from luthier.data.copied import Extraction
from luthier.generate import spans
from luthier.generate.call_grammar import CallableTool, Marks, begins_as_json, free_start, rules
from luthier.graders.measures.schema import schema_from

LONGEST_SCHEMA = 131_072
MOST_CHOICES = 10_000
_LONGEST_FAULT = 300
# Room for an indentation of any sane depth, and an end to blanks that a weak model would write for ever.
_BLANKS = r"[ \n\r\t]{1,64}"
_ONE_BLANK = " "  # as chat templates write the arguments of calls


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these texts."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that conforms to a schema which refers to nothing outside itself."""

    schema: JsonObject


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text that the whole of a regular expression matches (Rust's syntax: no look-around, no back-references)."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Spans:
    """JSON of the form of the training answers, its texts copied from this question."""

    extraction: Extraction
    question: str


Held = Choice | JsonSchema | Pattern | Spans


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """A call of one of these tools, or `several`. Where none is `required`, an answer may be any text, or `otherwise`.

    A call that begins as JSON does (Llama 3) cannot be told from JSON that is asked for, which then comes first.
    """

    format: CallFormat
    tools: tuple[CallableTool, ...]
    required: bool = True
    several: bool = False
    otherwise: Held | None = None


Constraint = Held | ToolCalls
ANY_OBJECT = JsonSchema({"type": "object"})


class Matcher:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self._bits: bytes | None = None

    def allowed(self) -> bytes:
        """Return one bit a token, the lowest first; raise RunFailed where the grammar has become too complex."""
        if self._bits is None:
            self._bits = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise RunFailed(f"the constraint cannot be held to any further: {self._matcher.get_error()}")
        return self._bits

    def accept(self, token: int) -> None:
        """Go on behind a token that `allowed` allows."""
        self._bits = None
        if not self._matcher.consume_token(token):
            raise RunFailed(f"the constraint refuses token {token}: {self._matcher.get_error()}")


class Grammar:
    """A constraint, compiled for one tokenizer."""

    def __init__(self, tokenizer: LLTokenizer, source: str, limits: LLParserLimits) -> None:
        self._first = LLMatcher(tokenizer, source, log_level=0, limits=limits)
        self.error = self._first.get_error()

    def start(self) -> Matcher:
        """Return the state of an answer that has no token yet."""
        return Matcher(self._first.deep_copy())

    def whole(self, tokens: Sequence[int]) -> bool:
        """Tell whether tokens, the stop token left out, are an answer that the constraint allows, from its beginning to its end."""
        state = self._first.deep_copy()
        return state.try_consume_tokens(list(tokens)) == len(tokens) and state.is_accepting()


class Constrainer:
    """Compiles constraints for a model: `vocabulary` is the width of its logits.

    `lead` is what the chat template writes between its prompt and an answer's content, as `ChatTemplate.lead` has it.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stop_tokens: Sequence[int], vocabulary: int, lead: str = ""
    ) -> None:
        fast = cast(PreTrainedTokenizerFast, tokenizer)
        self._tokenizer = from_tokenizer(fast, n_vocab=max(vocabulary, len(tokenizer)), eos_token=list(stop_tokens))
        self._limits = LLParserLimits(verbose_errors=False)
        self._lead_text, self._lead = lead, json.dumps(lead) if lead else ""
        added = {token.content: id for id, token in fast.added_tokens_decoder.items() if not token.content.isspace()}
        self._marks = Marks(added, frozenset(stop_tokens))

    def grammar(self, constraint: Constraint) -> Grammar:
        """Compile a constraint; raise SettingsError, naming the fault, for one that cannot be held to."""
        grammar = Grammar(self._tokenizer, self._source(constraint), self._limits)
        _refuse(constraint, grammar.error)
        return grammar

    def fits(self, grammar: Grammar, text: str) -> bool:
        """Tell whether a text could be a whole answer under a grammar of this constrainer."""
        return grammar.whole(self._tokenizer.greedy_tokenize(f"{self._lead_text}{text}"))

    def _source(self, constraint: Constraint) -> str:
        if not isinstance(constraint, ToolCalls):
            return f"start: {self._lead} answer\n{_rule(constraint)}"
        schema = partial(_checked, blanks=_ONE_BLANK)
        calls = rules(constraint.format, constraint.tools, self._marks, schema, several=constraint.several)
        if constraint.required:
            return f"start: calls\n{calls}"
        if constraint.otherwise is None:
            return f"{free_start(constraint.format, self._marks)}\n{calls}"
        if begins_as_json(constraint.format, self._marks):
            return self._source(constraint.otherwise)
        return f"start: calls | {self._lead} answer\n{calls}\n{_rule(constraint.otherwise)}"


def refuse_unusable(constraint: Held) -> None:
    """Raise SettingsError, naming the fault, for a constraint that cannot be held to; no model is needed to see it."""
    source = f"start: answer\n{_rule(constraint)}"
    _refuse(constraint, LLMatcher.validate_grammar(source, limits=LLParserLimits(verbose_errors=False)))


def masked(logits_BV: torch.Tensor, matchers: Sequence[Matcher | None]) -> torch.Tensor:
    """Return the logits with minus infinity wherever a row's grammar does not allow a token; None allows all."""
    lines = [line for line, matcher in enumerate(matchers) if matcher is not None]
    if not lines:
        return logits_BV
    rows = [np.frombuffer(matcher.allowed(), dtype=np.uint8) for matcher in matchers if matcher is not None]
    bits_nV = np.unpackbits(np.stack(rows), axis=1, bitorder="little")[:, : logits_BV.shape[1]]
    forbidden_nV = torch.from_numpy(bits_nV == 0).to(logits_BV.device)
    out_BV = logits_BV.clone()
    out_BV[lines] = out_BV[lines].masked_fill(forbidden_nV, float("-inf"))
    return out_BV


def _refuse(constraint: Constraint, error: str) -> None:
    if error:
        fault = " ".join(error.split())[:_LONGEST_FAULT].rstrip(".")
        raise SettingsError(f"answers cannot be constrained to this {_kind(constraint)}: {fault}.")


def _rule(constraint: Held) -> str:
    match constraint:
        case Choice(texts):
            if not texts or not all(texts) or len(texts) > MOST_CHOICES:
                raise SettingsError(
                    f"answers cannot be one of {len(texts)} texts: expected 1 to {MOST_CHOICES}, none of them empty."
                )
            return "answer: " + " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
        case Pattern(pattern):
            return f"answer: TEXT\nTEXT: /{regex_to_lark(pattern)}/"
        case JsonSchema(schema):
            return f"answer: %json {_checked(schema)}"
        case Spans(extraction, question):
            return spans.rule(extraction, question)


def _checked(schema: JsonObject, blanks: str = _BLANKS) -> str:
    """Return the schema as text, checked to be one and whole in itself, with our own rule for blanks."""
    schema_from(schema, "the JSON schema")
    text = json.dumps({**schema, "x-guidance": {"whitespace_pattern": blanks}})
    if len(text) > LONGEST_SCHEMA:
        raise SettingsError(
            f"the JSON schema has {len(text):,} characters; at most {LONGEST_SCHEMA:,} can constrain an answer. "
            "Leave descriptions out, or split the task."
        )
    return text


def _kind(constraint: Constraint) -> str:
    return {
        Choice: "set of texts",
        JsonSchema: "JSON schema",
        Pattern: "pattern",
        Spans: "form of the training answers",
        ToolCalls: "set of tools",
    }[type(constraint)]
