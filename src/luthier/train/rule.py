"""The rule by which Luthier chooses what the user left open. Every value is written back to config.yaml.

Sources, and what was taken from each:
- method: low-rank layers learn as much as full tuning on data sets of post-training size (Schulman
  et al. 2025, "LoRA Without Regret", thinkingmachines.ai/blog/lora). Full tuning where it is cheap
  anyway: models below 100 million weights, which are as small as an adapter of a large one.
- learning rate: the same study finds the best LoRA rate about 10 times the best full rate, and
  independent of the rank; tinker-cookbook's `hyperparam_utils` scales it with the width as
  (2000 / hidden)^0.781 for Llama. For widths like the starter's that is too low for full tuning;
  docs/decisions/0002-choices.md has what was measured.
- rank 16, alpha 32: Hu et al. 2021 (arXiv 2106.09685) find ranks beyond 8 to add little; 16 leaves room.
- batch: small batches train adapters better than large ones (the same study); 16 rows, 32 in large sets.
"""

from dataclasses import dataclass
from typing import Literal

Method = Literal["full", "lora"]
FULL_BELOW = 100_000_000


@dataclass(frozen=True)
class Choice:
    """What the rule chose."""

    method: Method
    rank: int
    alpha: float
    lr: float
    epochs: float
    batch_tokens: int


def choose(num_weights: int, hidden_size: int, num_rows: int, mean_tokens: float, method: Method | None) -> Choice:
    """Return method, rank, learning rate, epochs and batch for a model and a data set.

    `mean_tokens` is the mean length of the rendered training rows.
    """
    method = method or ("full" if num_weights < FULL_BELOW else "lora")
    return Choice(
        method=method,
        rank=16,
        alpha=32.0,
        lr=learning_rate(method, hidden_size),
        epochs=epochs(num_rows),
        batch_tokens=batch_tokens(num_rows, mean_tokens),
    )


def learning_rate(method: Method, hidden_size: int) -> float:
    """Return the peak rate: full 5e-5 x (2000 / hidden)^0.781, LoRA ten times it and at most 2e-3.

    Full tuning below a width of 384 takes 1e-3, which beat the formula on the starter.
    """
    full = 5e-5 * (2000 / hidden_size) ** 0.781
    if method == "lora":
        return round(min(2e-3, 10 * full), 8)
    return 1e-3 if hidden_size < 384 else round(full, 8)


def epochs(num_rows: int) -> float:
    """Return 3 epochs for 5,000 rows or more, up to 10 for a few hundred; early stopping may end it sooner."""
    if num_rows >= 5000:
        return 3.0
    return 5.0 if num_rows >= 1000 else 10.0


def batch_tokens(num_rows: int, mean_tokens: float) -> int:
    """Return the tokens of a step: 16 rows, 32 from 5,000 rows on, at least 4 steps an epoch."""
    rows = min(32 if num_rows >= 5000 else 16, max(1, num_rows // 4))
    return max(1, round(rows * mean_tokens))
