"""Compiled functions for a CPU: a little C++, made by the machine's own compiler, proven before it is used.

A decoding step is many small operations, and what they cost is starting them: a norm is nine, and the few queries of a row against its own
keys are a product that is too small for its preparations. In training each of the nine goes over memory once more, and so does each step of attention. `native.cpp`
has norms, gates and what decoding needs as one call each, `native_tree.cpp` the attention of training (docs/decisions/0010-compiled-functions.md has the figures
and the reasons).

Without a compiler (`native_build.py`), on another system than Linux, or where the library does not give what torch gives, there is none, and torch computes as
before: that costs speed alone.

Shapes: N tokens of a pass, n of its rows, L lines of a block, H key-value heads, X query heads, C columns, E channels, P tokens of a beginning, B rows of logits, V
the size of the vocabulary, D and F channels of hidden states; for training N tokens, H query heads, K key heads, S segments, P spans.
"""

import ctypes
import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from luthier.core.types import Segment
from luthier.kernels import reference
from luthier.kernels.native_build import build, compiler

log = logging.getLogger(__name__)

WIDTH = 16  # channels of a head come in whole vectors
_NAMES = {torch.bfloat16: "bf16", torch.float32: "f32"}
_CLOSE = {torch.bfloat16: 1e-2, torch.float32: 1e-5}  # of the norm: how far from torch's float64 results may be
# The functions and their arguments: p a place in memory, n a number of things or a stride, x a float, t threads.
_ARGUMENTS = {
    "attend": "pnnnppnpppppnpppnpnnnnxt", "log_sum_exp": "pnpnnt", "greatest": "pnppnnt", "rms_norm": "ppppnnxt", "rms_norm_backward": "ppppppnnt", "gated": "ppnnpnnt", "gated_backward": "pppnnppnnt", "write": "pnnpnnppnnn",
    "nll_gradient": "ppppnnt", "along": "pnnpnnpnnnnnnpnpnxnppt", "along_backward": "pnnpnnpnnnnnnpnpnxnpppnnpppt",
}  # fmt: skip
# They say whether what they are told lies inside of what they are given.
_CHECKED = {"attend", "write", "nll_gradient", "along", "along_backward"}
_TYPES = {"p": ctypes.c_void_p, "n": ctypes.c_int64, "x": ctypes.c_float, "t": ctypes.c_int}
_NO_TREE = "the segments do not follow each other, or one sees what does not stand before it"
_ALL = 1 << 32  # a window that hides nothing

States = tuple[torch.Tensor, torch.Tensor]


class Rows(NamedTuple):
    """Whose tokens a pass runs, n integers each: the line of each row's own keys, its first token in the pass and how many it has there,
    the own keys before them, and which of some beginnings it stands behind, -1 for none."""

    line_n: torch.Tensor
    first_n: torch.Tensor
    count_n: torch.Tensor
    start_n: torch.Tensor
    seen_n: torch.Tensor


class Branches(NamedTuple):
    """Segments of tokens one behind another, and what stands before each.

    `segment_S3` has, of each and once more for the end, its first token, how many it has and which of the spans is its first; `span_P2` the spans of tokens that
    a segment sees beside its own, from the first on.
    """

    segment_S3: torch.Tensor
    span_P2: torch.Tensor


class Native:
    """The functions of a compiled library."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._functions = {
            (name, dtype): library[f"luthier_{name}_{word}"] for name in _ARGUMENTS for dtype, word in _NAMES.items()
        }
        for (name, _), function in self._functions.items():
            function.restype = ctypes.c_bool if name in _CHECKED else None
            function.argtypes = [_TYPES[letter] for letter in _ARGUMENTS[name]]

    def attend(
        self, query_NXE: torch.Tensor, own: States, rows: Rows, beginnings: Sequence[States], scale: float
    ) -> torch.Tensor:
        """Return softmax attention of a pass's tokens, N x X x E, over their rows' own keys and what the rows begin with.

        `own` are blocks L x H x C x E, which hold the pass's own keys and values already; `beginnings` are keys and values H x P x E.
        Everything between the loaded and the stored numbers is float32. Raises IndexError for rows that lie outside of what is given.
        """
        query_NXE = query_NXE if query_NXE.stride(2) == 1 else query_NXE.contiguous()
        out_NXE = torch.empty(query_NXE.shape, dtype=query_NXE.dtype)
        key_LHCE, value_LHCE = (block.contiguous() for block in own)
        keys, values = ([states[place].contiguous() for states in beginnings] for place in (0, 1))
        tokens = (ctypes.c_int64 * max(1, len(beginnings)))(*(key.shape[1] for key in keys))
        _, heads, columns, channels = key_LHCE.shape
        _check_types(query_NXE, key_LHCE, value_LHCE, *keys, *values)
        fits = self._functions["attend", query_NXE.dtype](
            query_NXE.data_ptr(), len(query_NXE), *query_NXE.stride()[:2], key_LHCE.data_ptr(), value_LHCE.data_ptr(), len(key_LHCE),
            *(numbers_n.data_ptr() for numbers_n in rows), len(rows.line_n), _places(keys), _places(values), tokens, len(beginnings),
            out_NXE.data_ptr(), heads, query_NXE.shape[1] // heads, channels, columns, scale, torch.get_num_threads(),
        )  # fmt: skip
        if not fits:
            raise IndexError("a row lies outside of its block, of the pass or of the beginnings")
        return out_NXE

    def along(
        self, query_HNE: torch.Tensor, key_KNE: torch.Tensor, value_KNE: torch.Tensor, branches: Branches, scale: float, window: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return causal softmax attention along a tree, H x N x E, and each query's logarithm of its sum of exponentials, H x N in float32.

        With a window, of the last `window` tokens. The result lies in memory as N x H x E. Raises IndexError for segments that do not follow each other to the
        end, and for spans that do not lie before them.
        """
        states = [_with_channels(one) for one in (query_HNE, key_KNE, value_KNE)]
        out_NHE, log_total_HN = _as_tokens(query_HNE), torch.empty(query_HNE.shape[:2])
        given = (
            *_along(states, branches, scale, window),
            out_NHE.data_ptr(),
            log_total_HN.data_ptr(),
            torch.get_num_threads(),
        )
        if not self._functions["along", query_HNE.dtype](*given):
            raise IndexError(_NO_TREE)
        return out_NHE.transpose(0, 1), log_total_HN

    def along_backward(
        self, grad_HNE: torch.Tensor, query_HNE: torch.Tensor, key_KNE: torch.Tensor, value_KNE: torch.Tensor, out_HNE: torch.Tensor,
        log_total_HN: torch.Tensor, branches: Branches, scale: float, window: int | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return the gradients of queries, keys and values from that of the result; `out_HNE` and `log_total_HN` are what `along` gave."""
        states = [_with_channels(one) for one in (query_HNE, key_KNE, value_KNE)]
        grad_HNE, out_NHE, log_total_HN = (
            _with_channels(grad_HNE),
            out_HNE.transpose(0, 1).contiguous(),
            log_total_HN.contiguous(),
        )
        _check_types(query_HNE, grad_HNE, out_NHE)
        assert grad_HNE.shape == out_HNE.shape == query_HNE.shape and log_total_HN.shape == query_HNE.shape[:2]
        query_grad_NHE, key_grad_NKE, value_grad_NKE = (_as_tokens(one) for one in states)
        fits = self._functions["along_backward", query_HNE.dtype](
            *_along(states, branches, scale, window), out_NHE.data_ptr(), log_total_HN.data_ptr(), grad_HNE.data_ptr(), grad_HNE.stride(1),
            grad_HNE.stride(0), query_grad_NHE.data_ptr(), key_grad_NKE.data_ptr(), value_grad_NKE.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        if not fits:
            raise IndexError(_NO_TREE)
        return query_grad_NHE.transpose(0, 1), key_grad_NKE.transpose(0, 1), value_grad_NKE.transpose(0, 1)

    def log_sum_exp(self, logits_BV: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of the sum of exponentials of each row, in float32."""
        logits_BV = logits_BV if logits_BV.stride(1) == 1 else logits_BV.contiguous()
        out_B = torch.empty(len(logits_BV))
        self._functions["log_sum_exp", logits_BV.dtype](
            logits_BV.data_ptr(), logits_BV.stride(0), out_B.data_ptr(), *logits_BV.shape, torch.get_num_threads()
        )
        return out_B

    def nll_gradient(self, logits_BV: torch.Tensor, target_B: torch.Tensor, weight_B: torch.Tensor) -> torch.Tensor:
        """Return the targets' log-probabilities, in float32, and write over the logits the gradients of their negatives times `weight_B`.

        Raises IndexError, and writes nothing, for a target that is none of the words.
        """
        assert logits_BV.is_contiguous() and target_B.shape == weight_B.shape == logits_BV.shape[:1]
        target_B, weight_B, logp_B = (
            target_B.long().contiguous(),
            weight_B.float().contiguous(),
            torch.empty(len(logits_BV)),
        )
        fits = self._functions["nll_gradient", logits_BV.dtype](
            logits_BV.data_ptr(), target_B.data_ptr(), weight_B.data_ptr(), logp_B.data_ptr(), *logits_BV.shape, torch.get_num_threads()
        )  # fmt: skip
        if not fits:
            raise IndexError("a target is none of the words")
        return logp_B

    def greatest(self, logits_BV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each row's greatest logit, in float32, and its place, the first among equals; no number for a row that has one that is none."""
        logits_BV = logits_BV if logits_BV.stride(1) == 1 else logits_BV.contiguous()
        value_B, place_B = torch.empty(len(logits_BV)), torch.empty(len(logits_BV), dtype=torch.long)
        self._functions["greatest", logits_BV.dtype](
            logits_BV.data_ptr(), logits_BV.stride(0), value_B.data_ptr(), place_B.data_ptr(), *logits_BV.shape, torch.get_num_threads()
        )  # fmt: skip
        return value_B, place_B

    def rms_norm(
        self, hidden: torch.Tensor, weight_D: torch.Tensor, epsilon: float, factor_R: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return root mean square normalization over the last dimension, ... x D, rounded where Llama's rounds.

        `factor_R` takes, in float32, what each of the R rows was multiplied with; the backward pass needs it.
        """
        hidden = hidden.contiguous()
        out = torch.empty(hidden.shape, dtype=hidden.dtype)
        width = len(weight_D)
        _check_types(hidden, weight_D)
        self._functions["rms_norm", hidden.dtype](
            hidden.data_ptr(), weight_D.data_ptr(), out.data_ptr(), None if factor_R is None else factor_R.data_ptr(),
            hidden.numel() // width, width, epsilon, torch.get_num_threads(),
        )  # fmt: skip
        return out

    def rms_norm_backward(
        self,
        grad: torch.Tensor,
        hidden: torch.Tensor,
        weight_D: torch.Tensor,
        factor_R: torch.Tensor,
        *,
        wants_weight: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the gradients of the input, and of the weights in their type where they are wanted."""
        grad, hidden = grad.contiguous(), hidden.contiguous()
        _check_types(hidden, grad, weight_D)
        hidden_grad = torch.empty(hidden.shape, dtype=hidden.dtype)
        width = len(weight_D)
        weight_grad_D = torch.empty(width) if wants_weight else None
        self._functions["rms_norm_backward", hidden.dtype](
            grad.data_ptr(), hidden.data_ptr(), weight_D.data_ptr(), factor_R.data_ptr(), hidden_grad.data_ptr(),
            None if weight_grad_D is None else weight_grad_D.data_ptr(), hidden.numel() // width, width, torch.get_num_threads(),
        )  # fmt: skip
        return hidden_grad, None if weight_grad_D is None else weight_grad_D.to(weight_D.dtype)

    def gated(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """Return SiLU of `gate` times `up`, ... x F, rounded in between as two operations are (Shazeer 2020, arXiv 2002.05202)."""
        _check_types(gate, up)
        out = torch.empty(gate.shape, dtype=gate.dtype)
        gate_RF, up_RF = _rows(gate), _rows(up)
        self._functions["gated", gate.dtype](
            gate_RF.data_ptr(), up_RF.data_ptr(), gate_RF.stride(0), up_RF.stride(0), out.data_ptr(), *gate_RF.shape, torch.get_num_threads()
        )  # fmt: skip
        return out

    def gated_backward(
        self, grad: torch.Tensor, gate: torch.Tensor, up: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients of `gate` and of `up`."""
        _check_types(gate, up, grad)
        grad, gate_RF, up_RF = grad.contiguous(), _rows(gate), _rows(up)
        gate_grad, up_grad = (torch.empty(gate.shape, dtype=gate.dtype) for _ in range(2))
        self._functions["gated_backward", gate.dtype](
            grad.data_ptr(), gate_RF.data_ptr(), up_RF.data_ptr(), gate_RF.stride(0), up_RF.stride(0), gate_grad.data_ptr(), up_grad.data_ptr(),
            *gate_RF.shape, torch.get_num_threads(),
        )  # fmt: skip
        return gate_grad, up_grad

    def write(
        self, block_LHCE: torch.Tensor, states_NHE: torch.Tensor, line_N: torch.Tensor, column_N: torch.Tensor
    ) -> None:
        """Write states at their lines and columns of a dense block; raise IndexError, and write nothing, where one lies outside of it."""
        assert block_LHCE.is_contiguous()
        _check_types(block_LHCE, states_NHE)
        states_NHE = states_NHE if states_NHE.stride(2) == 1 else states_NHE.contiguous()
        fits = self._functions["write", block_LHCE.dtype](
            block_LHCE.data_ptr(), len(block_LHCE), block_LHCE.shape[2], states_NHE.data_ptr(), *states_NHE.stride()[:2],
            line_N.data_ptr(), column_N.data_ptr(), *states_NHE.shape,
        )  # fmt: skip
        if not fits:
            raise IndexError("a token lies outside of the block")


def for_attention(query_nXE: torch.Tensor) -> Native | None:
    """Return the library where it has attention for such queries."""
    return for_type(query_nXE) if query_nXE.shape[-1] % WIDTH == 0 else None


def for_type(tensor: torch.Tensor) -> Native | None:
    """Return the library where it has functions for tensors like this one."""
    return library() if tensor.dtype in _NAMES and tensor.device.type == "cpu" else None


def library() -> Native | None:
    """Return the compiled functions, made now if need be; None where there are none."""
    return _found()[0]


def why_not() -> str:
    """Say why there are none; empty where there are."""
    return _found()[1]


@cache
def _found() -> tuple[Native | None, str]:
    """Make the library once a process; a fault is said in the log, a machine that has no compiler is none."""
    if sys.platform != "linux":
        return None, f"they are made on Linux alone, not on {sys.platform}"
    if shutil.which(compiler()) is None:
        return None, f"there is no C++ compiler on this machine ({compiler()})"
    if not (Path(torch.__file__).with_name("lib") / "libgomp.so.1").exists():
        return None, "torch has another library for threads than GCC's, and two would spin beside each other"
    try:
        made = build(Native)
    except (OSError, subprocess.SubprocessError) as error:
        fault = f"{compiler()} could not make them: {getattr(error, 'stderr', None) or error}"
    else:
        if not (fault := fault_of(made)):
            return made, ""
    log.warning("going on without compiled functions, at less speed: %s", fault)
    return None, fault


def fault_of(found: Native) -> str:
    """Hold the functions to torch on random numbers; say where they differ, or nothing."""
    numbers = torch.Generator().manual_seed(0)
    heads, group, channels = 2, 3, 2 * WIDTH
    rows = Rows(*torch.tensor([[0, 1, 3, 2], [0, 1, 2, 22], [1, 1, 20, 3], [0, 17, 1, 5], [0, -1, 0, -1]]))
    for dtype, close in _CLOSE.items():
        shapes = ((25, heads * group, channels), *[(4, heads, 21, channels)] * 2, *[(heads, 300, channels)] * 2)
        query, keys, values, first_keys, first_values = (
            torch.randn(shape, generator=numbers).to(dtype) for shape in shapes
        )
        given = (query, (keys, values), rows, [(first_keys, first_values)], channels**-0.5)
        apart = _apart(found.attend(*given), reference.attention_behind(*given))
        apart = max(apart, *_along_apart(found, numbers, dtype))
        logits = 9 * torch.randn(4, WIDTH + 11, generator=numbers).to(dtype)
        value, place = found.greatest(logits)
        if not torch.equal(value, logits.float().amax(dim=-1)) or not torch.equal(place, logits.argmax(dim=-1)):
            return f"the greatest of some numbers in {dtype} is another one than torch's"
        off = float((found.log_sum_exp(logits).double() - logits.double().logsumexp(dim=-1)).abs().max())
        target, weight = torch.tensor([0, WIDTH + 3, WIDTH + 10, 7]), torch.tensor([1.0, 0.5, 2.0, 0.0])
        share = logits.double().softmax(dim=-1)
        slope = (share - torch.nn.functional.one_hot(target, share.shape[1])) * weight[:, None]
        off = max(off, float((found.nll_gradient(logits, target, weight) - share.log()[range(4), target]).abs().max()))
        apart = max(apart, _apart(logits, slope))
        if not (apart <= close and off <= 1e-4):
            return f"attention or a gradient in {dtype} is {apart:.1e} of its norm from torch's, log_sum_exp {off:.1e}"
    return ""


@torch.inference_mode(mode=False)  # an engine may ask for the library where no gradients are
def _along_apart(found: Native, numbers: torch.Generator, dtype: torch.dtype) -> list[float]:
    """Return how far attention along a small tree and its gradients are from torch's, as shares of their norms."""
    segments = [
        Segment(0, 20, 24, 0, -1),
        Segment(24, 40, 40, 20, 0),
        Segment(64, 5, 8, 20, 0),
        Segment(72, 3, 8, 0, -1),
    ]
    branches = Branches(
        torch.tensor([[0, 24, 0], [24, 40, 0], [64, 8, 1], [72, 8, 2], [80, 0, 2]]), torch.tensor([[0, 20], [0, 20]])
    )
    shapes = ((6, 80, 2 * WIDTH), *[(3, 80, 2 * WIDTH)] * 2, (6, 80, 2 * WIDTH))
    query, key, value, grad = (torch.randn(shape, generator=numbers).to(dtype) for shape in shapes)
    exact = wide_query, wide_key, wide_value = [states.double().requires_grad_() for states in (query, key, value)]
    with torch.enable_grad():
        wanted = reference.tree_attention(wide_query, wide_key, wide_value, segments, 0.2, 30)
        grads = torch.autograd.grad(wanted, exact, grad.double())
    out, log_total = found.along(query, key, value, branches, 0.2, 30)
    given = found.along_backward(grad, query, key, value, out, log_total, branches, 0.2, 30)
    return [_apart(mine, theirs) for mine, theirs in zip((out, *given), (wanted.detach(), *grads), strict=True)]


def _apart(mine: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((mine.double() - theirs).norm() / theirs.norm())


def _rows(states: torch.Tensor) -> torch.Tensor:
    return states.flatten(0, -2) if states.stride(-1) == 1 else states.contiguous().flatten(0, -2)


def _along(states: Sequence[torch.Tensor], branches: Branches, scale: float, window: int | None) -> list[int | float]:
    """Return what attention along a tree is told, forward and backward, of queries, keys and values, and of the tree."""
    _check_types(*states)
    query_HNE, key_KNE, value_KNE = states
    assert key_KNE.shape == value_KNE.shape and query_HNE.shape[1:] == key_KNE.shape[1:]
    assert len(query_HNE) % len(key_KNE) == 0, "key heads have equal shares of the query heads"
    heads, tokens, channels = key_KNE.shape
    places = [number for one in states for number in (one.data_ptr(), one.stride(1), one.stride(0))]
    segment_S3, span_P2 = branches
    tree = [segment_S3.data_ptr(), len(segment_S3) - 1, span_P2.data_ptr(), len(span_P2)]
    return [*places, tokens, heads, len(query_HNE) // heads, channels, *tree, scale, _ALL if window is None else window]


def _with_channels(states_HNE: torch.Tensor) -> torch.Tensor:
    """Return them with a head's channels side by side, as they are if they lie so."""
    return states_HNE if states_HNE.stride(2) == 1 else states_HNE.contiguous()


def _as_tokens(states_HNE: torch.Tensor) -> torch.Tensor:
    heads, tokens, channels = states_HNE.shape
    return states_HNE.new_empty(tokens, heads, channels)


def _check_types(first: torch.Tensor, *others: torch.Tensor) -> None:
    if any(other.dtype != first.dtype for other in others):
        raise TypeError(f"{first.dtype} does not go together with {', '.join(str(other.dtype) for other in others)}")


def _places(tensors: Sequence[torch.Tensor]) -> "ctypes.Array[ctypes.c_void_p]":
    return (ctypes.c_void_p * max(1, len(tensors)))(*(tensor.data_ptr() for tensor in tensors))
