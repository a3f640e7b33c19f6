"""Our attention inside a stock model: packed sequences, each of which sees itself only, and token trees.

Sequences lie one behind another in a single row, without padding and without a mask across them. On a CPU they and trees go through the compiled functions
(`native_attention.py`), and where there are none through plain torch: trees as `tree_attention.py` has them, runs of equal length as a batch, the short ones as
matrix products with their own backward pass. In bfloat16 those products take a fifth of the time of torch's flash kernel at 48 tokens, in float32 four fifths,
and the compiled functions a third to four fifths of what the products take (bench/attention.py). On a GPU both go to `gpu_attention.py`. Either enters a stock
model through transformers' public attention interface; which models may use it is decided by `train/policy.py` for packed rows and by `train/sharing.py` for trees.

Shapes: H heads, N tokens of the row, E channels of a head, n sequences of a run, l tokens of each,
M = n x H.
"""

from dataclasses import dataclass
from itertools import groupby

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from luthier.core.errors import ModelError
from luthier.kernels import gpu_attention, native_attention
from luthier.kernels.tree_attention import Blocks, tree_attention

NAME = "luthier_packed"
LONGEST_SHORT = {torch.bfloat16: 640, torch.float32: 128}  # where the short kernel stops paying on a CPU
Runs = tuple[tuple[int, int], ...]


def equal_runs(lengths: tuple[int, ...]) -> Runs:
    """Group neighbouring sequences of equal length: (number of sequences, length of each)."""
    return tuple((len(list(group)), length) for length, group in groupby(lengths))


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """What torch.compile hands on unread; it would compile anew for every value that it can see."""

    inner: Runs | Blocks | gpu_attention.Rows | gpu_attention.Branches


def register(*, compiled: bool = False) -> str:
    """Make packed attention known to transformers, and return the name to set on a model.

    `compiled`: for layers under torch.compile. They leave attention as it is, and take `runs` and `blocks` as `Opaque`.
    """
    AttentionInterface.register(NAME, torch.compiler.disable(_opened) if compiled else packed_attention)
    return NAME


def _opened(
    module: torch.nn.Module,
    *inputs: torch.Tensor,
    runs: Opaque | None = None,
    blocks: Opaque | None = None,
    **more: object,
) -> tuple[torch.Tensor, None]:
    shape = {name: held.inner for name, held in (("runs", runs), ("blocks", blocks)) if held is not None}
    return packed_attention(module, *inputs, **shape, **more)


def packed_attention(
    module: torch.nn.Module,
    query_1HNE: torch.Tensor,
    key_1HNE: torch.Tensor,
    value_1HNE: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    runs: Runs | gpu_attention.Rows | None = None,
    blocks: Blocks | gpu_attention.Branches | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,
    **unused: object,
) -> tuple[torch.Tensor, None]:
    """Attend within each sequence of `runs`, or along the tree of `blocks`; returns 1 x N x H x E.

    Without them every batch row is one sequence. Raises ModelError for what is not computed: capped scores, sinks, windows
    but in a tree. `unused` are the interface's arguments for other implementations (position ids and the like).
    """
    assert attention_mask is None, "packed attention takes no mask"
    assert key_1HNE.shape[2] == query_1HNE.shape[2], "packed attention goes on from no cache"
    if softcap is not None or s_aux is not None or (sliding_window is not None and blocks is None):
        raise ModelError(
            "this model's attention caps scores, has a window or a sink, which packed rows do not; use train.layout=padded."
        )
    scale = query_1HNE.shape[-1] ** -0.5 if scaling is None else scaling
    if blocks is not None:
        assert dropout == 0.0, "a tree shares what dropout would make different"
        inputs = (query_1HNE[0], key_1HNE[0], value_1HNE[0])
        if isinstance(blocks, gpu_attention.Branches):
            out_HNE = gpu_attention.along_tree(*inputs, blocks, scale, sliding_window)
        elif library := native_attention.library_for(*inputs):
            out_HNE = native_attention.attend(
                library, *inputs, native_attention.branches_of(blocks), scale, sliding_window
            )
        else:
            out_HNE = tree_attention(*inputs, blocks, scale, sliding_window)
        return out_HNE.transpose(0, 1)[None], None
    if isinstance(runs, gpu_attention.Rows):
        if dropout == 0.0 and query_1HNE.dtype in gpu_attention.HALVES:
            return gpu_attention.within_rows(query_1HNE[0], key_1HNE[0], value_1HNE[0], runs, scale)[None], None
        runs = equal_runs(runs.places)
    library = native_attention.library_for(query_1HNE, key_1HNE, value_1HNE)
    if runs is not None and library is not None and dropout == 0.0:
        inputs = (query_1HNE[0], key_1HNE[0], value_1HNE[0])
        out_HNE = native_attention.attend(library, *inputs, native_attention.rows_of(runs), scale)
        return out_HNE.transpose(0, 1)[None], None
    repeats = query_1HNE.shape[1] // key_1HNE.shape[1]
    if repeats > 1:
        key_1HNE, value_1HNE = (x.repeat_interleave(repeats, dim=1) for x in (key_1HNE, value_1HNE))
    if runs is None:
        out = scaled_dot_product_attention(
            query_1HNE, key_1HNE, value_1HNE, dropout_p=dropout, scale=scale, is_causal=True
        )
        return out.transpose(1, 2), None
    return _within_runs(query_1HNE, key_1HNE, value_1HNE, runs, dropout, scale), None


def _within_runs(
    query_1HNE: torch.Tensor,
    key_1HNE: torch.Tensor,
    value_1HNE: torch.Tensor,
    runs: Runs,
    dropout: float,
    scale: float,
) -> torch.Tensor:
    """Attend within each sequence, the sequences of a run as one batch; returns 1 x N x H x E."""
    longest_short = LONGEST_SHORT.get(query_1HNE.dtype, 0) if query_1HNE.device.type == "cpu" and dropout == 0.0 else 0
    outs = []
    sizes = [number * length for number, length in runs]
    parts = (x[0].split(sizes, dim=1) for x in (query_1HNE, key_1HNE, value_1HNE))  # split: its backward is one `cat`
    for (number, length), *query_key_value in zip(runs, *parts, strict=True):
        query_HnlE, key_HnlE, value_HnlE = (x.unflatten(1, (number, length)) for x in query_key_value)
        if length <= longest_short:
            out_HnlE = causal_attention(query_HnlE, key_HnlE, value_HnlE, scale)
        else:
            out_HnlE = scaled_dot_product_attention(
                query_HnlE, key_HnlE, value_HnlE, dropout_p=dropout, scale=scale, is_causal=True
            )
        outs.append(out_HnlE.flatten(1, 2))
    return torch.cat(outs, dim=1).transpose(0, 1)[None]


def causal_attention(
    query_HnlE: torch.Tensor, key_HnlE: torch.Tensor, value_HnlE: torch.Tensor, scale: float
) -> torch.Tensor:
    """Return causal softmax attention as three matrix products; scores have the inputs' type, as in eager attention."""
    return _CausalAttention.apply(
        query_HnlE.flatten(0, 1), key_HnlE.flatten(0, 1), value_HnlE.flatten(0, 1), scale
    ).view_as(query_HnlE)


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query_MlE, key_MlE, value_MlE, scale):
        length = query_MlE.shape[1]
        hidden_ll = query_MlE.new_full((length, length), torch.finfo(query_MlE.dtype).min).triu_(1)
        share_Mll = torch.softmax(torch.baddbmm(hidden_ll, query_MlE, key_MlE.transpose(1, 2), alpha=scale), dim=-1)
        ctx.save_for_backward(query_MlE, key_MlE, value_MlE, share_Mll)
        ctx.scale = scale
        return torch.bmm(share_Mll, value_MlE)

    @staticmethod
    def backward(ctx, grad_MlE):
        query_MlE, key_MlE, value_MlE, share_Mll = ctx.saved_tensors
        value_grad_MlE = torch.bmm(share_Mll.transpose(1, 2), grad_MlE)
        share_grad_Mll = torch.bmm(grad_MlE, value_MlE.transpose(1, 2))
        score_grad_Mll = torch.ops.aten._softmax_backward_data(share_grad_Mll, share_Mll, -1, share_Mll.dtype)
        query_grad_MlE = torch.bmm(score_grad_Mll, key_MlE).mul_(ctx.scale)
        key_grad_MlE = torch.bmm(score_grad_Mll.transpose(1, 2), query_MlE).mul_(ctx.scale)
        return query_grad_MlE, key_grad_MlE, value_grad_MlE, None
