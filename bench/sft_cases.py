"""What bench/sft.py measures: shapes, the rows of a case, and the cases of a CPU and of a GPU."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

PROMPT = (
    "You are the language understanding of a voice assistant. You turn what people say into one JSON object with the keys "
    "intent and slots. The intent is one of AddToPlaylist, BookRestaurant, GetWeather, PlayMusic, RateBook, "
    "SearchCreativeWork and SearchScreeningEvent. The slots name what was asked for in the words that were said. "
) * 3
SHAPES: dict[str, dict[str, str | int | bool]] = {
    "llama-135m": {
        "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 2048, "tie_word_embeddings": True,
    },
    "qwen3-0.6b": {
        "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 4096, "tie_word_embeddings": True,
    },
    "llama-1b": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 4096, "tie_word_embeddings": True,
    },
    "qwen3-4b": {
        "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 4096, "tie_word_embeddings": True,
    },
    "llama-8b": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 4096, "tie_word_embeddings": False,
    },
}  # fmt: skip
_TINY = {"vocab_size": 8192, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
# What runs a candidate, and the words behind its task; a peer, which its first word names, needs its own Python.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "luthier tree": ("sft_luthier.py", "tree"),
    "luthier packed": ("sft_luthier.py", "packed"),
    "trl padded": ("sft_trl.py", "padded"),
    "trl packed": ("sft_trl.py", "packed"),
    "trl padded + liger": ("sft_trl.py", "padded", "liger"),
    "trl packed + liger": ("sft_trl.py", "packed", "liger"),
    "llamafactory": ("sft_llamafactory.py", "recomputed"),
    "llamafactory open": ("sft_llamafactory.py", "kept"),
    "litgpt": ("sft_litgpt.py",),
}
_BOTH = ("luthier tree", "luthier packed")


@dataclass(frozen=True)
class Case:
    """One model, what of it is trained, and on which rows: SNIPS behind `shared` tokens, or `tokens` random ones each, all trained."""

    model: str
    method: str
    candidates: tuple[str, ...]
    shared: int = 0
    tokens: int = 0
    rows_a_step: int = 16
    micro_tokens: int = 8192
    checkpointing: bool = False

    @property
    def name(self) -> dict[str, object]:
        """The case in the words of the results."""
        rows = {"tokens_each": self.tokens} if self.tokens else {"shared_tokens": self.shared}
        return {
            "model": self.model, "method": self.method, **rows, "rows_a_step": self.rows_a_step, "micro_tokens": self.micro_tokens,
            "checkpointing": self.checkpointing,
        }  # fmt: skip

    def rows(self, file: Path, tokenizer: PreTrainedTokenizerBase, steps: int) -> list[dict[str, list[int]]]:
        """Return the rows of so many steps as tokens, with a mask of what is trained."""
        number = self.rows_a_step * steps
        if self.tokens:
            return _random_rows(len(tokenizer), self.tokens, number)
        found = snips_rows(file, tokenizer, self.shared, number)
        if len(found) < number:
            raise SystemExit(f"{file} has {len(found)} rows; {steps} steps of {self.rows_a_step} need {number}.")
        return found

    def config(self, quick: bool) -> dict[str, str | int | bool] | None:
        """Return the model's shape; a model without one is loaded."""
        shape = SHAPES.get(self.model)
        return shape | _TINY if shape and quick else shape and dict(shape)


def on_a_cpu(models: Sequence[str], methods: Sequence[str], shared: Sequence[int]) -> Iterator[Case]:
    """Yield every combination."""
    candidates = (*_BOTH, "trl padded", "trl packed", "llamafactory", "llamafactory open", "litgpt")
    for model in models:
        for method in methods:
            yield from (Case(model, method, candidates, shared=number) for number in shared)


def on_a_gpu(quick: bool) -> Iterator[Case]:
    """Yield what is to be known of a GPU, the most important first, and of each first Luthier beside its fastest peer.

    TRL packs rows apart from one another only with FlashAttention's kernels. Long rows have one length, so that
    padded is packed; padded SNIPS rows carry the padding to the longest of each batch.
    """
    length = 64 if quick else 1024
    beside = ("luthier packed", "trl padded + liger")
    big = Case("llama-8b", "lora", beside, tokens=length, checkpointing=True)
    small = Case("llama-1b", "full", beside, tokens=length)
    prompted = Case(
        "qwen3-0.6b", "lora", (*_BOTH, "trl padded + liger"), shared=150, rows_a_step=64, micro_tokens=20480
    )
    open_big = replace(big, checkpointing=False, micro_tokens=4096)
    yield from (big, small, prompted, open_big)
    yield from (replace(case, candidates=("trl padded",)) for case in (big, small, prompted))
    yield Case("qwen3-0.6b", "full", beside, tokens=length)
    yield Case("qwen3-4b", "lora", beside, tokens=length, micro_tokens=4096)
    yield Case("llama-1b", "lora", beside, tokens=length)


def snips_rows(file: Path, tokenizer: PreTrainedTokenizerBase, shared: int, number: int) -> list[dict[str, list[int]]]:
    """Return rows as tokens with a mask of what is trained, each behind the first `shared` tokens of the prompt."""
    prompt = tokenizer.encode(PROMPT, add_special_tokens=False)[:shared]
    assert len(prompt) == shared
    out = []
    with file.open(encoding="utf-8") as lines:
        for line, _ in zip(lines, range(number), strict=False):
            row = json.loads(line)
            answer = json.dumps({"intent": row["intent"], "slots": row["slots"]}, ensure_ascii=False)
            asked = tokenizer.encode(f" Said: {row['text']}\nJSON: ", add_special_tokens=False)
            trained = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
            mask = [0] * (shared + len(asked)) + [1] * len(trained)
            out.append({"input_ids": [*prompt, *asked, *trained], "completion_mask": mask})
    return out


def _random_rows(vocabulary: int, length: int, number: int) -> list[dict[str, list[int]]]:
    rng = random.Random(0)
    mask = [0] + [1] * (length - 1)
    return [{"input_ids": [rng.randrange(vocabulary) for _ in mask], "completion_mask": mask} for _ in range(number)]
