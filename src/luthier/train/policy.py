"""The model as the objectives see it: batches in, sums of weighted log-probabilities out.

The decoder runs once over the batch and only the trained positions go through the output
layer (`kernels/head.py`). Whether that equals the model's own logits is proven on a batch before
training; a model that changes its logits behind the output layer in a way that the head does not know takes the
slow path through the model's own forward. Shapes as in `data/loader.py`.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from transformers import Cache, PreTrainedConfig, PreTrainedModel

from luthier.compat.cache_argument import with_cache
from luthier.compat.checkpointing import compute_again
from luthier.compat.compile_cache import own_compile_cache
from luthier.core.errors import ModelError, ProofFailed
from luthier.data.groups import AnswerTargets
from luthier.data.loader import Batch, Layout
from luthier.kernels import again, attention, branching, gpu_attention, head, native_layers, tree_attention
from luthier.train.sharing import PROVEN

_Inputs = dict[
    str,
    torch.Tensor
    | attention.Runs
    | attention.Opaque
    | tree_attention.Blocks
    | gpu_attention.Rows
    | gpu_attention.Branches,
]
_Branches = dict[str, torch.Tensor | Cache]

# How far the log-probability of a target may lie from the model's own, the farthest and in the mean, in nats.
_BOUNDS, _BOUNDS_IN_HALF = (1e-4, 1e-4), (1.5, 0.1)
_UNKNOWN_TRANSFORMS = ("logit_scale", "lm_head_multiplier", "logits_scaling_factor", "output_multiplier_scale")


class Policy:
    """A causal language model that answers with losses and log-probabilities per batch."""

    def __init__(self, model: torch.nn.Module, *, compiled: bool = False) -> None:
        self.model = model
        self.stock = stock_model(model)
        self.decoder = self.stock.get_decoder()
        self.head = _output_layer(self.stock)
        self.bend = bend_of(self.stock)
        self._compiled = compiled
        self._computes_again = False
        self._swaps: dict[bool, list[native_layers.Swap]] = {}
        if compiled:
            own_compile_cache()
            for layer in _layers(self.decoder):  # all layers share what is compiled, whatever the number of tokens
                layer.compile(dynamic=True)

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.head.weight.device

    def compute_again(self, layout: Layout) -> None:
        """Keep no activations inside the layers in training: the backward pass computes them again, beside a cache too."""
        self._computes_again = True
        if layout == "cached_tree":
            again.compute_again(_layers(self.decoder))
        else:
            compute_again(self.stock)

    def weighted_nll(self, batch: Batch) -> torch.Tensor:
        """Return the sum over targets of weight times negative log-probability, a float32 scalar with gradients."""
        index_T, target_T, weight_T = self._targets(batch)
        if self.bend is None:
            return -(self._stock_scores(batch, index_T, target_T).logp_T * weight_T).sum()
        return head.weighted_nll(self._states(batch), index_T, target_T, weight_T, self.head.weight, self.bend)

    def target_logp(self, batch: Batch) -> torch.Tensor:
        """Return the log-probability of each target, float32 of shape T, with gradients."""
        index_T, target_T, _ = self._targets(batch)
        if self.bend is None:
            return self._stock_scores(batch, index_T, target_T).logp_T
        return head.target_logp(self._states(batch), index_T, target_T, self.head.weight, self.bend)

    def answer_logp(self, batch: Batch, answers: AnswerTargets) -> torch.Tensor:
        """Return the log-probability of each sequence's answer, one number a sequence, with gradients."""
        sequence_P, target_P = (torch.from_numpy(x).to(self.device) for x in (answers.sequence_P, answers.target_P))
        parts_P = self.target_logp(batch)[target_P] * torch.from_numpy(answers.weight_P).to(self.device)
        return parts_P.new_zeros(answers.num_sequences).index_add(0, sequence_P, parts_P)

    def logp(self, batch: Batch) -> torch.Tensor:
        """Return the log-probability of each target, float32 of shape T, without gradients."""
        return self.scores(batch).logp_T

    @torch.no_grad()
    def scores(self, batch: Batch) -> head.Scores:
        """Return the log-probability of each target and whether greedy decoding takes it, without gradients."""
        index_T, target_T, _ = self._targets(batch)
        with self._as_written():
            if self.bend is None:
                return self._stock_scores(batch, index_T, target_T)
            return head.target_scores(self._states(batch), index_T, target_T, self.head.weight, self.bend)

    @torch.no_grad()
    def prove(self, batch: Batch) -> dict[str, float]:
        """Compare the log-probabilities of `batch` with the model's own, row by row; raise ProofFailed if they differ.

        The oracle is the stock model with eager attention on one row at a time, so a leak between packed
        rows shows too. In float32 no target may differ by 1e-4 nats. In bfloat16 single targets differ by up to half a
        nat from rounding alone (8 bits of mantissa at logits of about 30), while their mean stays at some 0.03; a leak or a
        token that is not seen moves the mean.
        """
        attention_name = self.stock.config._attn_implementation or "eager"
        found: list[torch.Tensor] = []
        with mode(self.model, training=False), self._as_written():
            ours_T = self.logp(batch).cpu()
            self.stock.set_attn_implementation("eager")
            try:
                for row, own in alone(batch):
                    stock = self._stock_scores(row, *self._targets(row)[:2]).logp_T.cpu()
                    found.append((ours_T[torch.from_numpy(own)] - stock).abs())
            finally:
                self.stock.set_attn_implementation(attention_name)
        differences = torch.cat(found)
        most, mean = differences.max().item(), differences.mean().item()
        bound, mean_bound = _BOUNDS if self.head.weight.dtype == torch.float32 else _BOUNDS_IN_HALF
        if not (most <= bound and mean <= mean_bound):
            raise ProofFailed(
                f"the loss that Luthier computes differs from the model's own by up to {most:.3g} nats a token and {mean:.3g} in the mean "
                f"(bounds {bound} and {mean_bound}); "
                "this model computes attention or logits in a way that Luthier does not know. Try --set train.layout=padded."
            )
        return {
            "head_max_difference": most, "head_bound": bound, "head_mean_difference": mean, "head_mean_bound": mean_bound,
        }  # fmt: skip

    def _targets(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        arrays = (batch.index_T, batch.target_T, batch.weight_T)
        index_T, target_T, weight_T = (torch.from_numpy(array).to(self.device) for array in arrays)
        return index_T, target_T, weight_T

    def _inputs(self, batch: Batch) -> _Inputs:
        tokens_BL = torch.from_numpy(batch.tokens_BL).to(self.device)
        if batch.layout == "padded":  # padding is on the right, where causal attention never looks
            return {"input_ids": tokens_BL}
        position_BL = torch.from_numpy(batch.position_BL).to(self.device)
        inputs: _Inputs = {"input_ids": tokens_BL, "position_ids": position_BL}
        on_gpu = self.device.type == "cuda"
        if batch.tree is not None:
            segments = batch.tree.segments
            blocks = gpu_attention.branches(segments, self.device) if on_gpu else tree_attention.blocks(segments)
            return inputs | {"blocks": attention.Opaque(blocks) if self._compiled else blocks}
        runs = gpu_attention.rows(batch.places, self.device) if on_gpu else attention.equal_runs(batch.places)
        return inputs | {"runs": attention.Opaque(runs) if self._compiled else runs}

    def _as_written(self) -> AbstractContextManager[object]:
        """Run the layers uncompiled for a block: without gradients it would be compiled once more."""
        return torch.compiler.set_stance("force_eager") if self._compiled else nullcontext()

    def _states(self, batch: Batch) -> torch.Tensor:
        """Return the last hidden state of every position, flat."""
        with self._in_one_call():
            if batch.layout == "cached_tree":
                return self._branched(batch, lambda inputs: self.decoder(**inputs, use_cache=True).last_hidden_state)
            return self.decoder(**self._inputs(batch), use_cache=False).last_hidden_state.flatten(0, 1)

    def _in_one_call(self) -> AbstractContextManager[object]:
        """Compute norms and gates as compiled functions for a block, where the backward pass does not run the layers as they are."""
        if self._compiled or self._computes_again or self.device.type != "cpu":
            return nullcontext()
        gradients = torch.is_grad_enabled()
        if gradients not in self._swaps:
            self._swaps[gradients] = native_layers.swaps(self.decoder, gradients=gradients)
        return native_layers.swapped(self._swaps[gradients])

    def _branched(self, batch: Batch, forward: Callable[[_Branches], torch.Tensor]) -> torch.Tensor:
        assert batch.tree is not None
        tokens_N = torch.from_numpy(batch.tree.tokens_N).to(self.device)

        def grown(tokens_BL: torch.Tensor, position_BL: torch.Tensor, cache: branching.BranchingCache) -> torch.Tensor:
            return forward({"input_ids": tokens_BL, "position_ids": position_BL, **with_cache(cache)})

        return branching.run(grown, self.stock.config, tokens_N, batch.tree.segments)

    def _stock_scores(self, batch: Batch, index_T: torch.Tensor, target_T: torch.Tensor) -> head.Scores:
        if batch.layout == "cached_tree":
            logits_NV = self._branched(batch, lambda inputs: self.stock(**inputs, use_cache=True).logits)
        else:
            logits_NV = self.stock(**self._inputs(batch), use_cache=False).logits.flatten(0, 1)
        logits_TV = logits_NV[index_T].float()
        logp_T = torch.log_softmax(logits_TV, dim=-1).gather(1, target_T[:, None])[:, 0]
        return head.Scores(logp_T, logits_TV.argmax(-1) == target_T)


@contextmanager
def mode(model: torch.nn.Module, *, training: bool) -> Generator[None]:
    """Put the model into training or inference mode for a block: dropout and checkpointing act in training only."""
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)


def alone(batch: Batch) -> Iterator[tuple[Batch, np.ndarray]]:
    """Yield every sequence of a batch as a padded batch of its own, without padding, and the numbers of its targets.

    In a tree, a row's targets are those that lie on its path, also where only another row trains them.
    """
    flat = batch.tokens_BL.reshape(-1)
    for row, (where_L, own, index_T) in zip(batch.rows, _own_targets(batch), strict=True):
        yield Batch(
            tokens_BL=flat[where_L][None], position_BL=np.arange(len(where_L))[None],
            lengths=(len(where_L),), places=(len(where_L),), num_trained=len(own),
            index_T=index_T, target_T=batch.target_T[own], weight_T=batch.weight_T[own], rows=(row,), layout="padded",
        ), own  # fmt: skip


def answered(batch: Batch, greedy_T: torch.Tensor) -> list[bool]:
    """Tell of each sequence of a batch whether greedy decoding takes all of its targets: it would answer to the letter."""
    taken_T = greedy_T.cpu().numpy()
    return [bool(taken_T[own].all()) for _, own, _ in _own_targets(batch)]


def _own_targets(batch: Batch) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield of every sequence its flat positions, the numbers of its targets, and where in the sequence these are predicted."""
    flat = batch.tokens_BL.reshape(-1)
    for where_L in _places(batch):
        place = np.full(len(flat), -1)
        place[where_L] = np.arange(len(where_L))
        index_T = place[batch.index_T]
        ahead_T = flat[where_L][np.minimum(index_T + 1, len(where_L) - 1)]
        own = np.flatnonzero((index_T >= 0) & (index_T + 1 < len(where_L)) & (ahead_T == batch.target_T))
        yield where_L, own, index_T[own]


def _places(batch: Batch) -> Iterator[np.ndarray]:
    """Yield the flat positions of every sequence's tokens."""
    if batch.tree is not None:
        yield from (batch.tree.places_of_row(row) for row in range(len(batch.rows)))
        return
    for start, length in zip(np.cumsum([0, *batch.places[:-1]]).tolist(), batch.lengths, strict=True):
        yield np.arange(start, start + length)


def stock_model(model: torch.nn.Module) -> PreTrainedModel:
    """Return the transformers model itself, also from inside a PeftModel (whose layers it then holds)."""
    inner = model if isinstance(model, PreTrainedModel) else model.get_base_model()  # type: ignore[operator]  # what is no stock model is a PeftModel
    assert isinstance(inner, PreTrainedModel)
    return inner


def _layers(decoder: torch.nn.Module) -> torch.nn.ModuleList:
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        raise ModelError(
            f"{type(decoder).__name__} has no list of layers to go over one by one; set train.compile=false and train.gradient_checkpointing=false."
        )
    return layers


def _output_layer(model: PreTrainedModel) -> torch.nn.Linear:
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise ModelError(
            f"{type(model).__name__} has no linear output layer, so it is no causal language model that Luthier can train."
        )
    return head


def bend_of(model: PreTrainedModel) -> head.Bend | None:
    """Return what the model does to the products of its output layer and its last hidden state, or None where that is not known."""
    settings = model.config.get_text_config().to_dict()
    unknown = any(settings.get(key) not in (1.0, None) for key in _UNKNOWN_TRANSFORMS)
    output = model.get_output_embeddings()
    if type(output) is not torch.nn.Linear or output.bias is not None or unknown:
        return None
    return head.Bend(settings.get("logits_scaling") or 1.0, settings.get("final_logit_softcapping"))


def packable(config: PreTrainedConfig) -> bool:
    """Tell whether rows may lie one behind another: every layer is full attention, so a mask keeps them apart.

    Recurrent and convolution layers would carry state across rows, and a window is not in our mask. Configs that name no types of
    layers are taken for what they are in models that `train/sharing.py` lists.
    """
    settings = config.get_text_config().to_dict()
    layer_types: Sequence[str] | None = settings.get("layer_types")
    if layer_types:
        return all(layer_type == "full_attention" for layer_type in layer_types)
    return PROVEN.get(str(settings.get("model_type"))) == "tree" and settings.get("sliding_window") is None
