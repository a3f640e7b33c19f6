"""A batch of rows laid flat: what its prompts begin with is computed once, kept once and read once for all rows.

Which models may be run like this stands in `PROVEN`; all others are padded (`padded.py`).
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from peft import PeftModel
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel

from luthier.core.types import Prompt
from luthier.generate.lines import Lines
from luthier.generate.passes import Step
from luthier.generate.shared import num_shared
from luthier.kernels import line_attention
from luthier.kernels.line_attention import Beginning

# Models in which only attention and positions connect tokens, each proven in tests/generate/test_lines.py.
PROVEN = frozenset({"granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "qwen3_moe", "smollm3"})


def may_lie_flat(model: PreTrainedModel | PeftModel) -> bool:
    """Whether the rows of a model may be run here: a proven one, on a CPU, with stock attention over everything."""
    stock = _stock(model)
    cache = DynamicCache(config=stock.config)
    attends_to_all = cache.is_croppable and not any(cache.is_sliding)
    on_cpu = stock.device.type == "cpu" and stock.config._attn_implementation in ("sdpa", line_attention.NAME)
    return on_cpu and attends_to_all and stock.config.get_text_config(decoder=True).model_type in PROVEN


def lies_flat(model: PreTrainedModel | PeftModel) -> bool:
    """Whether a model has the attention that `Lines` needs."""
    return _stock(model).config._attn_implementation == line_attention.NAME


def lay_flat(model: PreTrainedModel | PeftModel) -> None:
    """Give a model the attention that `Lines` needs."""
    _stock(model).set_attn_implementation(line_attention.register())


@contextmanager
def laid_flat(model: PreTrainedModel | PeftModel) -> Generator[None]:
    """Give a model the attention that `Lines` needs for a while."""
    before = _stock(model).config._attn_implementation
    lay_flat(model)
    try:
        yield
    finally:
        _stock(model).set_attn_implementation(cast(str, before))


class FlatRows:
    """The rows of a batch while they are decoded."""

    def __init__(self, model: PreTrainedModel | PeftModel, config: PreTrainedConfig, batch: Sequence[Prompt]) -> None:
        """Run the prompts."""
        self._model = model
        self._lines = Lines(config)
        self.rows = list(range(len(batch)))
        shared = num_shared(batch)
        beginning = self._beginning(batch[0].tokens[:shared]) if shared else None
        steps = [Step(self._lines.add(beginning), prompt.tokens[shared:]) for prompt in batch]
        self.logits_BV = self._lines.run(model, steps)

    def keep(self, lines: list[int]) -> None:
        """Let all other rows go."""
        self.rows = [self.rows[line] for line in lines]
        self._lines.keep(lines)
        self.logits_BV = self.logits_BV[lines]

    def advance(self, tokens_B: torch.Tensor) -> None:
        """Run one more token of every row."""
        steps = [Step(line, (token,)) for line, token in enumerate(tokens_B.tolist())]
        self.logits_BV = self._lines.run(self._model, steps)

    def look(self, stretches: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Return the logits behind every token of a stretch behind each row, T x V; the rows stay where they are."""
        return self._lines.look(self._model, [Step(line, tokens) for line, tokens in enumerate(stretches)])

    def _beginning(self, tokens: Sequence[int]) -> Beginning:
        line = self._lines.add()
        self._lines.run(self._model, [Step(line, tokens)])
        beginning = self._lines.beginning(line)
        self._lines.drop(line)
        return beginning


def _stock(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    return cast(PreTrainedModel, model.get_base_model() if isinstance(model, PeftModel) else model)
