"""Text to tokens, with the user's own words kept apart from control tokens.

A control token such as `<|im_start|>` means something only where the chat template writes it. The
same characters inside a message are the user's text: `mark` wraps them before the template runs, and
`encode` turns what is wrapped into ordinary tokens. Text without such characters, nearly all of it,
takes the tokenizer's own road, so its tokens are those of `apply_chat_template(tokenize=True)`.

The marks are Unicode noncharacters, which no text interchange carries; a text that holds them
nevertheless keeps them, as their own wrapped names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from luthier.core.errors import ModelError
from luthier.core.types import JsonValue
from luthier.data.problems import RowProblem

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

_START, _END = "\ufdd0", "\ufdd1"
_NAMES = {_START: "\ufdd2", _END: "\ufdd3"}
_MARKERS = {name: marker for marker, name in _NAMES.items()}
_PIECES = re.compile(f"{_START}([^{_START}{_END}]*){_END}|[{_START}{_END}]")
_ANCHORS = ("\n", "x", ".")


class Encoder:
    """A fast tokenizer, encoding texts whose control tokens are marked.

    `template_source` is the chat template's Jinja text: added tokens that it writes (`<think>`,
    `<tool_call>`) are control tokens too, though the tokenizer does not call them special.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template_source: str = "") -> None:
        if not tokenizer.is_fast:
            raise ModelError(
                f"the tokenizer {type(tokenizer).__name__} has no fast form (tokenizer.json), and Luthier needs one. "
                "Convert it with transformers' AutoTokenizer(...).save_pretrained, or choose another model."
            )
        self._tokenizer = tokenizer
        self._backend = cast("Tokenizer", tokenizer.backend_tokenizer)
        added = tokenizer.added_tokens_decoder
        self.added: dict[int, str] = {id: token.content for id, token in added.items()}
        self.special = {token.content for token in added.values() if token.special}
        written = {text for text in self.added.values() if text in template_source and not text.isspace()}
        self._everywhere = _any_of(self.special)
        self._outside_answers = _any_of(self.special | written)
        self._ids = {text: id for id, text in self.added.items()}
        self._adds_prefix = self._detect_prefix()

    def mark(self, value: JsonValue, *, answer: bool = False) -> JsonValue:
        """Wrap control tokens in every string of a message, tool or document.

        In an answer only special tokens are wrapped: `<think>` and `<tool_call>` are how the model speaks.
        """
        pattern = self._everywhere if answer else self._outside_answers
        if isinstance(value, str):
            return pattern.sub(_wrapped, value) if pattern.search(value) else value
        if isinstance(value, dict):
            return {str(self.mark(key, answer=answer)): self.mark(item, answer=answer) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.mark(item, answer=answer) for item in value]
        return value

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode marked texts, each as the beginning of a sequence, without adding BOS or EOS."""
        plain = iter(self._batch([text for text in texts if not is_marked(text)]))
        return [self._pieces(text, after=False) if is_marked(text) else next(plain) for text in texts]

    def encode_after(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode marked texts, each as the continuation of a sequence that is encoded already.

        The difference shows in SentencePiece tokenizers, which put a space before a beginning.
        """
        if not self._adds_prefix:
            return self.encode(texts)
        return [self._pieces(text, after=True) for text in texts]

    def decode_after(self, tokens: Sequence[int]) -> str:
        """Decode tokens that continue a sequence, control tokens included."""
        if not self._adds_prefix:
            return self._decode(tokens)
        anchor = self._batch([_ANCHORS[1]])[0]
        return self._decode([*anchor, *tokens]).removeprefix(self._decode(anchor))

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _batch(self, texts: Sequence[str]) -> list[list[int]]:
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = False
        return [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _pieces(self, text: str, *, after: bool) -> list[int]:
        ids: list[int] = []
        for index, piece in enumerate(_PIECES.split(text)):
            if not piece:
                continue
            if index % 2:
                ids += self._as_text(piece)
            elif after or ids:
                ids += self._continued(piece)
            else:
                ids += self._batch([piece])[0]
        return ids

    def _as_text(self, piece: str) -> list[int]:
        token = self._ids.get(piece)
        ids = _strip_anchor(self._raw, _MARKERS.get(piece, piece))
        if token in ids:
            raise RowProblem(
                "control-token-in-text",
                f"the text holds {piece!r}, which this tokenizer can only write as the control token. Remove it.",
            )
        return ids

    def _continued(self, piece: str) -> list[int]:
        if not self._adds_prefix:
            return self._batch([piece])[0]
        return _strip_anchor(lambda text: self._batch([text])[0], piece)

    def _raw(self, text: str) -> list[int]:
        """Encode by the tokenizer's normalizer, splitter and model alone, which know no added tokens."""
        backend = self._backend
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        words = [text]
        if backend.pre_tokenizer is not None:
            words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for word in words for token in backend.model.tokenize(word)]

    def _detect_prefix(self) -> bool:
        alone, behind, newline = self._batch(["x", "\nx", "\n"])
        return behind[: len(newline)] == newline and behind[len(newline) :] != alone


def is_marked(text: str) -> bool:
    """Tell whether a marked text holds a control token of the user's."""
    return _START in text or _END in text


def unmark(text: str) -> str:
    """Return a marked text as the user wrote it."""
    return _PIECES.sub(lambda match: _MARKERS.get(match[1], match[1]) if match[1] is not None else "", text)


def _any_of(tokens: set[str]) -> re.Pattern[str]:
    longest_first = sorted({*tokens, _START, _END}, key=lambda token: (-len(token), token))
    return re.compile("|".join(re.escape(token) for token in longest_first if token))


def _wrapped(match: re.Match[str]) -> str:
    return f"{_START}{_NAMES.get(match[0], match[0])}{_END}"


def _strip_anchor(encode: Callable[[str], list[int]], text: str) -> list[int]:
    """Encode `text` behind an anchor and take the anchor's tokens off again; merges across the two forbid it."""
    for anchor in _ANCHORS:
        head, ids = encode(anchor), encode(anchor + text)
        if ids[: len(head)] == head:
            return ids[len(head) :]
    return encode(text)
