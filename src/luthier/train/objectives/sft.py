"""Supervised fine-tuning: the assistant's turns are trained, each with its end-of-turn token."""

import torch

from luthier.data.loader import Batch
from luthier.train.policy import Policy


class Objective:
    """The negative log-likelihood of the trained tokens; linear in the log-probabilities."""

    rendering = "sft"

    def count(self, batch: Batch) -> float:
        """Return the sum of the targets' weights, by which the loop divides."""
        return float(batch.weight_T.sum())

    def loss(self, policy: Policy, batch: Batch) -> torch.Tensor:
        """Return the weighted sum over the batch, not its mean."""
        return policy.weighted_nll(batch)
