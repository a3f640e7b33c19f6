"""The starter's tokenizer: byte-level BPE in which the space before a word is merged last.

A small model copies spans from its prompt into JSON strings, where a word that stood behind a
space stands behind a quote. In ordinary BPE the two are cut differently. Here the merges are
learned on words without their space, and only then the pairs (space, piece) are appended for
the pieces that most often begin a word. So a word has the same pieces with and without a
space, but for the first. Nothing of this shows in the file: it is a stock BPE with the gpt-2
split, as llama.cpp and others read it.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from luthier.core.errors import DataError
from luthier.core.types import JsonObject

VOCAB_SIZE = 8192
SPACED_PIECES = 2000
CONTEXT = 2048
SPECIAL_TOKENS = (
    "<|pad|>",
    "<|begin|>",
    "<|endoftext|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|end|>",
    "<|think|>",
    "<|/think|>",
    "<|tool_call|>",
    "<|/tool_call|>",
)
TEMPLATE = Path(__file__).parent / "model" / "chat_template.jinja"

_SPACE = "\u0120"  # how byte-level BPE writes the byte 0x20
_GPT2_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SPACE_OF_WORD = r"^ (?=[\p{L}\p{N}])"
_DIGIT_PAIRS = r"\p{N}{1,2}"
_BATCH = 1000


def train(texts: Sequence[str]) -> Tokenizer:
    """Learn a tokenizer of exactly 8,192 entries from texts; raise DataError where they are too few for it."""
    plain = _trained_without_spaces(texts, VOCAB_SIZE - SPACED_PIECES)
    state = json.loads(plain.to_str())
    vocab, merges = dict(state["model"]["vocab"]), [tuple(pair) for pair in state["model"]["merges"]]
    for piece in _first_pieces(plain, texts, VOCAB_SIZE - len(vocab)):
        vocab[_SPACE + piece] = len(vocab)
        merges.append((_SPACE, piece))
    if len(vocab) != VOCAB_SIZE:
        raise DataError(f"the text gives only {len(vocab):,} of {VOCAB_SIZE:,} tokens; a tokenizer needs more text.")
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return _finished(tokenizer)


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the tokenizer as a folder that transformers loads: its file, its settings and the chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    settings: JsonObject = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin|>",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "extra_special_tokens": [token for token in SPECIAL_TOKENS if token not in ("<|begin|>", "<|end|>", "<|pad|>")],
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "padding_side": "right",
    }
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE.read_text(encoding="utf-8"), encoding="utf-8")


def _trained_without_spaces(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_GPT2_SPLIT), "isolated"),
            pre_tokenizers.Split(Regex(_SPACE_OF_WORD), "isolated"),
            pre_tokenizers.Split(Regex(_DIGIT_PAIRS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return _finished(tokenizer)


def _finished(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return tokenizer


def _first_pieces(plain: Tokenizer, texts: Sequence[str], count: int) -> list[str]:
    """Return the pieces that most often stand right behind a space, the most frequent first."""
    found: Counter[int] = Counter()
    space = plain.token_to_id(_SPACE)
    for batch in _batches(texts):
        for encoding in plain.encode_batch_fast(batch, add_special_tokens=False):
            ids = encoding.ids
            found.update(after for before, after in itertools.pairwise(ids) if before == space)
    pieces = ((number, plain.id_to_token(token) or "") for token, number in found.items())
    ranked = sorted((-number, piece) for number, piece in pieces if not piece.startswith(_SPACE))
    return [piece for _, piece in ranked[:count]]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
