"""Compiled functions give what torch gives, alone and in a model."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_families import FAMILIES, tiny
from tiny_models import tiny_llama
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from luthier.core.errors import RunFailed
from luthier.core.types import Prompt
from luthier.generate.engine import Engine, evaluating
from luthier.generate.sample import greedy, log_probability
from luthier.kernels import native, native_layers, reference
from luthier.kernels.native import Native, Rows
from luthier.kernels.native_layers import NativeGate, NativeNorm

pytestmark = pytest.mark.skipif(native.library() is None, reason=f"needs compiled functions: {native.why_not()}")
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 4e-3}


def compiled() -> Native:
    found = native.library()
    assert found is not None
    return found


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def a_pass(seed: int, heads: int, channels: int, counts: list[int], tokens: list[int], dtype: torch.dtype):
    """Random rows in random lines, with random columns of their own before the pass, behind random beginnings or none."""
    rng, numbers = random.Random(seed), torch.Generator().manual_seed(seed)
    group = rng.choice([1, 2, 3, 4, 5, 8])
    starts = [rng.randint(0, 40) for _ in counts]
    lines = rng.sample(range(len(counts) + 3), len(counts))
    firsts = [sum(counts[:place]) for place in range(len(counts))]
    seen = [rng.randint(-1, len(tokens) - 1) for _ in counts]
    columns = max(start + count for start, count in zip(starts, counts)) + rng.randint(0, 9)
    shapes = [(sum(counts), heads * group, channels), *[(len(counts) + 3, heads, columns, channels)] * 2]
    query, keys, values = (torch.randn(shape, generator=numbers).to(dtype) for shape in shapes)
    beginnings = [
        (torch.randn(heads, size, channels, generator=numbers).to(dtype), torch.randn(heads, size, channels, generator=numbers).to(dtype))
        for size in tokens
    ]  # fmt: skip
    for line, start, count in zip(lines, starts, counts):  # what no row may read
        keys[line, :, start + count :] = values[line, :, start + count :] = float("nan")
    return query, (keys, values), Rows(*torch.tensor([lines, firsts, counts, starts, seen])), beginnings, channels**-0.5


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1 << 20), st.integers(1, 3), st.sampled_from([16, 64, 80]), st.lists(st.integers(1, 50), min_size=1, max_size=6),
    st.lists(st.integers(1, 300), max_size=3), st.sampled_from([torch.float32, torch.bfloat16]),
)  # fmt: skip
def test_attention_is_that_of_every_token_by_itself(seed, heads, channels, counts, tokens, dtype) -> None:
    asked = a_pass(seed, heads, channels, counts, tokens, dtype)
    assert apart(compiled().attend(*asked), reference.attention_behind(*asked)) < CLOSE[dtype]


@pytest.mark.parametrize(
    ("counts", "tokens"), [([1] * 70, [150]), ([1], [3000]), ([600, 1], [20]), ([1] * 9 + [260] + [3] * 9, [513, 1])]
)
def test_attention_in_pieces_of_every_kind(counts: list[int], tokens: list[int]) -> None:
    """Many rows of one token, one row behind much, a long prompt, and all at once."""
    asked = a_pass(0, 2, 32, counts, tokens, torch.float32)
    assert apart(compiled().attend(*asked), reference.attention_behind(*asked)) < 1e-5


def test_attention_reads_queries_as_they_lie_and_needs_no_certain_number_of_threads() -> None:
    query, *rest = a_pass(3, 3, 64, [1, 40, 7, 1], [33], torch.float32)
    wanted = reference.attention_behind(query, *rest)
    turned = query.transpose(0, 1).contiguous().transpose(0, 1)
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3, 8):
            torch.set_num_threads(number)
            assert apart(compiled().attend(turned, *rest), wanted) < 1e-5
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "changes",
    [{"line_n": 4}, {"line_n": -1}, {"first_n": 2}, {"count_n": 0}, {"start_n": 99}, {"start_n": -1}, {"seen_n": 1}],
)
def test_rows_outside_of_what_is_given_are_refused(changes: dict[str, int]) -> None:
    query, own, rows, beginnings, scale = a_pass(7, 2, 16, [2], [9], torch.float32)
    outside = rows._replace(**{name: torch.tensor([value]) for name, value in changes.items()})
    with pytest.raises(IndexError, match="outside"):
        compiled().attend(query, own, outside, beginnings, scale)


@pytest.mark.parametrize(("line", "column"), [(5, 0), (-1, 0), (0, 7), (0, -1)])
def test_tokens_are_written_inside_of_their_block_alone(line: int, column: int) -> None:
    with pytest.raises(IndexError, match="outside"):
        compiled().write(torch.zeros(5, 2, 7, 16), torch.zeros(1, 2, 16), torch.tensor([line]), torch.tensor([column]))


@pytest.mark.parametrize("width", [1, 15, 16, 1003])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sum_behind_a_probability(width: int, dtype: torch.dtype) -> None:
    logits = (20 * torch.randn(5, width + 4, generator=torch.Generator().manual_seed(width))).to(dtype)[:, :width]
    logits[0, 1:] = logits[1, : width - 1] = float("-inf")
    wanted = logits.double().logsumexp(dim=-1)
    torch.testing.assert_close(compiled().log_sum_exp(logits).double(), wanted, rtol=1e-5, atol=1e-5)
    tokens = torch.tensor([0, width - 1, 0, 0, 0])
    chosen = logits.double().gather(1, tokens[:, None])[:, 0] - wanted
    torch.testing.assert_close(log_probability(logits, tokens).double(), chosen, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("width", [1, 16, 49, 1003])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_greatest_is_the_first_among_equals(width: int, dtype: torch.dtype) -> None:
    """Small whole numbers, so that most rows have several that are the greatest; one row has none that is allowed but the last."""
    logits = torch.randint(-9, 3, (40, width), generator=torch.Generator().manual_seed(width)).to(dtype)
    logits[3, :-1], logits[4] = float("-inf"), -7.0
    value, place = compiled().greatest(logits)
    assert torch.equal(value, logits.float().amax(dim=-1))
    assert (
        place.tolist() == [row.index(max(row)) for row in logits.tolist()] and place.tolist() == greedy(logits).tolist()
    )
    logits[5, width // 2] = float("nan")
    assert torch.isnan(compiled().greatest(logits)[0]).nonzero().flatten().tolist() == [5]
    with pytest.raises(RunFailed, match="no finite numbers"):
        greedy(logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_norms_gates_and_writes_are_those_of_torch(dtype: torch.dtype) -> None:
    numbers = torch.Generator().manual_seed(1)
    hidden = (torch.randn(2, 9, 48, generator=numbers) * torch.logspace(-3, 3, 9)[:, None]).to(dtype)
    norm = LlamaRMSNorm(48, eps=1e-5).to(dtype)
    norm.weight.copy_(torch.randn(48, generator=numbers))
    one_off = 2.0**-7 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(compiled().rms_norm(hidden, norm.weight, 1e-5), norm(hidden), rtol=one_off, atol=0)
    gate, up = hidden[..., :32], hidden[..., 16:]
    torch.testing.assert_close(compiled().gated(gate, up), nn.functional.silu(gate) * up, rtol=2 * one_off, atol=1e-6)
    block, states = torch.zeros(5, 2, 7, 16).to(dtype), torch.randn(2, 4, 16, generator=numbers).to(dtype)
    line, column = torch.tensor([4, 0, 4, 2]), torch.tensor([6, 0, 5, 3])
    wanted = block.clone()
    wanted[line, :, column] = states.transpose(0, 1)
    compiled().write(block, states.transpose(0, 1), line, column)
    assert torch.equal(block, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("counts", [[1, 1], [40]])
def test_what_is_no_number_is_not_hidden(counts: list[int], dtype: torch.dtype) -> None:
    """Weights that are damaged end in an error (`generate/sample.py`), which looks at the logits alone."""
    for place in range(3):
        query, own, rows, beginnings, scale = a_pass(2, 1, 16, counts, [20], dtype)
        rows = rows._replace(seen_n=torch.zeros(len(counts), dtype=torch.long))
        spoiled = [query, beginnings[0][0], beginnings[0][1]][place]
        spoiled[..., -1, 3] = float("nan")
        found = compiled().attend(query, own, rows, beginnings, scale)
        assert torch.isnan(found).any() and torch.equal(
            torch.isnan(found), torch.isnan(reference.attention_behind(query, own, rows, beginnings, scale))
        )
    line = torch.ones(1, 32).to(dtype)
    line[0, 20] = float("nan")
    one = torch.ones(32).to(dtype)
    assert torch.isnan(compiled().log_sum_exp(line)).all() and torch.isnan(compiled().rms_norm(line, one, 1e-5)).all()
    assert (
        torch.isnan(compiled().gated(line, one[None])).sum()
        == torch.isnan(compiled().gated(one[None], line)).sum()
        == 1
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_norms_and_gates_are_those_of_torch(dtype: torch.dtype) -> None:
    """In bfloat16 both are held to float64: the compiled ones round less often, and are not farther away."""
    numbers = torch.Generator().manual_seed(3)
    hidden = torch.randn(2, 37, 48, generator=numbers).to(dtype)
    grad, weight = (torch.randn(shape, generator=numbers).to(dtype) for shape in ((2, 37, 48), (48,)))
    gate, up = (torch.randn(2, 37, 32, generator=numbers).to(dtype) for _ in range(2))

    def stock(dtype: torch.dtype) -> list[torch.Tensor]:
        norm = LlamaRMSNorm(48, eps=1e-5).to(dtype)
        given = [one.to(dtype).requires_grad_() for one in (hidden, gate, up)]
        norm.weight.data.copy_(weight)
        found = list(torch.autograd.grad(norm(given[0]), [given[0], norm.weight], grad.to(dtype)))
        return found + list(
            torch.autograd.grad(nn.functional.silu(given[1]) * given[2], given[1:], grad[..., :32].to(dtype))
        )

    factor = torch.empty(74)
    compiled().rms_norm(hidden, weight, 1e-5, factor)
    ours = [
        *compiled().rms_norm_backward(grad, hidden, weight, factor, wants_weight=True),
        *compiled().gated_backward(grad[..., :32], gate, up),
    ]
    for found, torchs, exact in zip(ours, stock(dtype), stock(torch.float64), strict=True):
        assert found is not None and found.dtype == dtype
        assert apart(found, exact) <= max(1e-6, 1.05 * apart(torchs, exact))
    assert compiled().rms_norm_backward(grad, hidden, weight, factor, wants_weight=False)[1] is None


def test_the_gradient_of_a_norms_weights_is_the_same_every_time_with_any_number_of_rows() -> None:
    """Its sum over rows is dealt to threads; with more threads than rows some have none."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for rows in (1, 2, 100):
            hidden, grad = torch.randn(2, rows, 16, generator=torch.Generator().manual_seed(rows))
            factor, weight = torch.empty(rows), torch.ones(16)
            compiled().rms_norm(hidden, weight, 1e-5, factor)
            first, *others = (
                compiled().rms_norm_backward(grad, hidden, weight, factor, wants_weight=True)[1] for _ in range(5)
            )
            assert first is not None and all(torch.equal(first, other) for other in others if other is not None)
            torch.testing.assert_close(first, (grad * hidden * factor[:, None]).sum(0), rtol=1e-4, atol=1e-5)
    finally:
        torch.set_num_threads(threads)


def layers_of(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, NativeNorm | NativeGate)]


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("training", [True, False])
def test_which_families_are_computed_in_one_call(family: str, training: bool) -> None:
    """Norms of queries and keys, whose heads are narrower here than a vector, are left out of the count."""
    model = tiny(family)
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    norms = [
        name for name, kind in kinds.items() if kind.endswith("RMSNorm") and not name.endswith(("q_norm", "k_norm"))
    ]
    gates = [name for name, kind in kinds.items() if kind.endswith("MLP")]
    with native_layers.used(model, gradients=training):
        whole = all(isinstance(model.get_submodule(name), NativeNorm | NativeGate) for name in norms + gates)
    assert (whole and gates != []) == (family in native_layers.IN_ONE_CALL)


def test_a_norm_that_takes_more_than_its_input_stays() -> None:
    """A recurrent layer's norm takes a gate as well, and computes the same as any other without one."""
    model = tiny("granitemoehybrid")
    gated = [type(module) for module in model.modules() if "Gated" in type(module).__name__]
    assert gated
    with native_layers.used(model):
        assert [type(module) for module in model.modules() if "Gated" in type(module).__name__] == gated


@torch.inference_mode()
def test_norms_and_gates_stand_in_a_model_for_a_while() -> None:
    model, ids = tiny_llama(), torch.arange(20)[None]
    before, wanted = list(model.modules()), model(ids).logits
    with native_layers.used(model):
        kinds = [type(layer) for layer in layers_of(model)]
        assert kinds.count(NativeNorm) == 2 * len(model.model.layers) + 1
        assert kinds.count(NativeGate) == len(model.model.layers)
        torch.testing.assert_close(model(ids).logits, wanted, rtol=1e-4, atol=1e-5)
    assert list(model.modules()) == before
    with pytest.raises(RuntimeError, match="stopped"), native_layers.used(model):
        raise RuntimeError("stopped")
    assert list(model.modules()) == before


def test_what_computes_something_else_stays() -> None:
    """Norms of Gemma add one to their weights; their name for the small number is changed here to be taken for Llama's."""

    class Strange(GemmaRMSNorm):
        def __init__(self, width: int) -> None:
            super().__init__(width)
            self.variance_epsilon = self.eps

    class Doubled(LlamaRMSNorm):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(hidden_states)

    heard = LlamaRMSNorm(32)
    heard.register_forward_hook(lambda *_: None)
    model = nn.ModuleList(
        [Strange(32), Doubled(32), LlamaRMSNorm(24), heard, LlamaRMSNorm(32, eps=1e-3), LlamaRMSNorm(32)]
    )
    with native_layers.used(model):
        assert [isinstance(layer, NativeNorm) for layer in model] == [False, False, False, False, True, True]
    other = tiny("gemma2")
    with native_layers.used(other):
        assert layers_of(other) == []


@torch.inference_mode()
def test_a_norm_of_another_type_than_its_input_computes_as_before() -> None:
    model, hidden = nn.ModuleList([LlamaRMSNorm(32)]), torch.randn(3, 32).bfloat16()
    wanted = model[0](hidden)
    with native_layers.used(model):
        assert isinstance(model[0], NativeNorm)
        found = model[0](hidden)
    assert found.dtype == wanted.dtype and torch.equal(found, wanted)
    with pytest.raises(TypeError, match=r"bfloat16 does not go together with torch\.float32"):
        compiled().rms_norm(hidden, torch.ones(32), 1e-5)


def answers(model: nn.Module) -> list[tuple[int, ...]]:
    rng = random.Random(5)
    head = [rng.randrange(5, 512) for _ in range(20)]
    prompts = [Prompt(str(row), (*head, *(rng.randrange(5, 512) for _ in range(3 + row)))) for row in range(7)]
    return [one.tokens for one in Engine(model, (), 0, unrender=str, max_new_tokens=9, batch_size=7)(prompts)]


def calls_of(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    called: set[str] = set()
    for name in ("attend", "log_sum_exp", "greatest", "rms_norm", "gated", "write"):
        stock = getattr(Native, name)
        monkeypatch.setattr(
            Native, name, lambda self, *given, name=name, stock=stock: (called.add(name), stock(self, *given))[1]
        )
    return called


def test_answers_are_decoded_with_all_of_them_and_are_the_same_without(monkeypatch: pytest.MonkeyPatch) -> None:
    model, called = tiny_llama(head_dim=native.WIDTH), calls_of(monkeypatch)
    ours = answers(model)
    assert called == {"attend", "log_sum_exp", "greatest", "rms_norm", "gated", "write"}
    called.clear()
    monkeypatch.setattr(native, "_found", lambda: (None, "none is wanted"))
    assert answers(model) == ours and called == set()
    with evaluating(model):
        assert layers_of(model) == []
