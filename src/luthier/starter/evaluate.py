"""What the starter can do, measured: held-out bits per byte, the skills of its data, few-shot labels.

Bits per byte are taken over whole token sequences as training sees them (marks of turns are
predicted too, their bytes are not counted), the same for the model and for the n-gram
yardstick. Nothing here generates: whoever asks passes `answer`, from many prompts to their texts.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from luthier.core.errors import DataError
from luthier.core.hashing import generator
from luthier.core.types import JsonObject
from luthier.starter import corpus
from luthier.starter.draw import shuffled, some
from luthier.starter.kneser_ney import KneserNey
from luthier.starter.rows import Pair
from luthier.starter.tokenizer import CONTEXT

Answer = Callable[[Sequence[list[JsonObject]]], Sequence[str]]

_BATCH_TOKENS = 4096
_BATCH_ROWS = 1000


@dataclass(frozen=True, slots=True)
class CodeLength:
    """How many bits a model needs for some text: `num_tokens` were predicted, `num_bytes` is UTF-8 text."""

    bits: float
    num_tokens: int
    num_bytes: int

    @property
    def bits_per_byte(self) -> float:
        """The code length per byte of text; lower is better, and it compares across tokenizers."""
        return self.bits / self.num_bytes


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How many of some questions got exactly the wanted answer."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        """The share of right answers."""
        return self.right / self.asked


def rows_of(path: Path) -> list[JsonObject]:
    """Read the rows of a JSON lines file; raise DataError if there is none."""
    with path.open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    if not rows:
        raise DataError(f"{path} has no rows; at least one is needed to measure anything.")
    return rows


def num_bytes(rows: Sequence[JsonObject]) -> int:
    """Count the UTF-8 bytes of the texts of rows, turn marks and roles left aside."""
    return sum(len(text.encode()) for row in rows for text in corpus.texts(row))


def sequences(tokenizer: Tokenizer, rows: Sequence[JsonObject]) -> Iterator[np.ndarray]:
    """Yield the tokens of each row as training lays it out: a chat by the template, a document between its marks."""
    marks = {name: tokenizer.token_to_id(f"<|{name}|>") for name in ("begin", "end", "endoftext")}
    roles = {name: tokenizer.token_to_id(f"<|{name}|>") for name in ("system", "user", "assistant", "tool")}
    waiting = iter(rows)
    while batch := list(islice(waiting, _BATCH_ROWS)):
        texts = [text for row in batch for text in corpus.texts(row)]
        encoded = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        for row in batch:
            tokens = [marks["begin"]]
            if "messages" in row:
                for message in row["messages"]:  # type: ignore[union-attr]  # rows of files written here have messages
                    tokens += [roles[message["role"]], *next(encoded).ids, marks["end"]]
            else:
                tokens += [*next(encoded).ids, marks["endoftext"]]
            yield np.array(tokens, dtype=np.int32)


def model_code_length(model: PreTrainedModel, tokenizer: Tokenizer, rows: Sequence[JsonObject]) -> CodeLength:
    """Return the code length of rows under a causal model; every token but a row's first is predicted once."""
    pieces = [piece for tokens_L in sequences(tokenizer, rows) for piece in _windows(tokens_L)]
    pieces.sort(key=lambda piece: len(piece.tokens_L))
    bits = sum(_bits(model, batch) for batch in _batches(pieces))
    return CodeLength(bits, sum(len(piece.tokens_L) - piece.first for piece in pieces), num_bytes(rows))


def ngram_code_length(
    tokenizer: Tokenizer, train: Sequence[JsonObject], rows: Sequence[JsonObject], order: int = 5
) -> CodeLength:
    """Return the code length of rows under a modified Kneser-Ney model of the training rows' tokens."""
    model = KneserNey(list(sequences(tokenizer, train)), tokenizer.get_vocab_size(), order)
    unseen = list(sequences(tokenizer, rows))
    bits = sum(model.bits(tokens_L) for tokens_L in unseen)
    return CodeLength(bits, sum(len(tokens_L) - 1 for tokens_L in unseen), num_bytes(rows))


def skill_accuracies(folder: Path, answer: Answer) -> dict[str, Accuracy]:
    """Ask for the last assistant turn of every held-out row, by skill, and compare to the letter.

    `folder` holds one `<skill>.jsonl` a skill, as the recipe writes it.
    """
    found: dict[str, Accuracy] = {}
    for path in sorted(folder.glob("*.jsonl")):
        asked = [(messages[:-1], str(messages[-1]["content"])) for messages in _conversations(path)]
        found[path.stem] = accuracy(asked, answer)
    return found


def _conversations(path: Path) -> Iterator[list[JsonObject]]:
    for row in rows_of(path):
        yield row["messages"]  # type: ignore[misc]  # rows of files written here have messages


def few_shot_labels(
    train: Sequence[Pair], test: Sequence[Pair], *, num_labels: int, shots: int, count: int, seed: int
) -> list[tuple[list[JsonObject], str]]:
    """Return prompts that show `shots` texts of each of a few labels and ask for the label of one more, with the answers."""
    by_label: dict[str, list[Pair]] = {}
    for pair in train:
        by_label.setdefault(pair.answer, []).append(pair)
    rng = generator(seed, "few-shot labels")
    prompts = []
    for asked in some(rng, test, count):
        others = [label for label in by_label if label != asked.answer]
        labels = shuffled(rng, [asked.answer, *some(rng, others, num_labels - 1)])
        solved = shuffled(rng, [pair for label in labels for pair in some(rng, by_label[label], shots)])
        instruction = f"Classify the text with one of the labels: {', '.join(labels)}. Answer with the label only."
        turns = [("system", instruction)]
        for pair in solved:
            turns += [("user", pair.text), ("assistant", pair.answer)]
        turns.append(("user", asked.text))
        messages: list[JsonObject] = [{"role": role, "content": content} for role, content in turns]
        prompts.append((messages, asked.answer))
    return prompts


def accuracy(prompts: Sequence[tuple[list[JsonObject], str]], answer: Answer) -> Accuracy:
    """Ask every prompt and compare the answers to the letter, white space around them aside."""
    answers = answer([messages for messages, _ in prompts])
    right = sum(given.strip() == wanted.strip() for given, (_, wanted) in zip(answers, prompts, strict=True))
    return Accuracy(right, len(prompts))


def labelled(path: Path) -> list[Pair]:
    """Read rows with `text` and `label`, as the classification sets have them."""
    return [Pair(str(row["text"]), str(row["label"])) for row in rows_of(path)]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A window of a sequence: the tokens from `first` on are predicted, those before it are context."""

    tokens_L: np.ndarray
    first: int


def _windows(tokens_L: np.ndarray) -> Iterator[_Piece]:
    """Cut a sequence into windows of the model's context; all but the first share half of it with their neighbour."""
    yield _Piece(tokens_L[:CONTEXT], 1)
    half = CONTEXT // 2
    for start in range(half, len(tokens_L) - half, half):
        yield _Piece(tokens_L[start : start + CONTEXT], half)


def _batches(pieces: Sequence[_Piece]) -> Iterator[list[_Piece]]:
    batch: list[_Piece] = []
    for piece in pieces:
        if batch and len(piece.tokens_L) * (len(batch) + 1) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


@torch.no_grad()
def _bits(model: PreTrainedModel, batch: Sequence[_Piece]) -> float:
    """Return the bits of a batch, padded at the right, where padding cannot reach what a causal model predicts."""
    longest = max(len(piece.tokens_L) for piece in batch)
    tokens_BT = torch.zeros(len(batch), longest, dtype=torch.long)
    predicted_BT = torch.zeros(len(batch), longest, dtype=torch.bool)
    for index, piece in enumerate(batch):
        tokens_BT[index, : len(piece.tokens_L)] = torch.from_numpy(piece.tokens_L)
        predicted_BT[index, piece.first : len(piece.tokens_L)] = True
    tokens_BT, predicted_BT = tokens_BT.to(model.device), predicted_BT.to(model.device)
    logp_BTV = model(tokens_BT).logits[:, :-1].float().log_softmax(-1)
    logp_BT = logp_BTV.gather(-1, tokens_BT[:, 1:, None])[..., 0]
    return float(-logp_BT[predicted_BT[:, 1:]].double().sum() / np.log(2.0))
