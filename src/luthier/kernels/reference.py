"""What the fast kernels must equal, in plain torch.

Shapes: N hidden states, T targets, D width, V vocabulary.
"""

import torch


def target_logp(
    hidden_ND: torch.Tensor, index_T: torch.Tensor, target_T: torch.Tensor, weight_VD: torch.Tensor
) -> torch.Tensor:
    """Return the log-probability of each target token, float32 of shape T."""
    logits_TV = (hidden_ND[index_T] @ weight_VD.t()).float()
    return torch.log_softmax(logits_TV, dim=-1).gather(1, target_T[:, None])[:, 0]


def weighted_nll(
    hidden_ND: torch.Tensor,
    index_T: torch.Tensor,
    target_T: torch.Tensor,
    weight_T: torch.Tensor,
    weight_VD: torch.Tensor,
) -> torch.Tensor:
    """Return the sum over targets of weight times negative log-probability, a float32 scalar."""
    return -(target_logp(hidden_ND, index_T, target_T, weight_VD) * weight_T).sum()
