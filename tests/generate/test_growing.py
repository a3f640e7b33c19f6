"""The cache that grows in place and the attention made for decoding give what the stock ones give."""

import pytest
import torch
from tiny_models import tiny_llama, tiny_sliding, tiny_unproven
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from luthier.core.types import Prompt
from luthier.generate.engine import Engine
from luthier.generate.growing import GrowingLayer, growing_cache
from luthier.kernels import decode_attention


def states(tokens: int, rows: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 2, tokens, 8), torch.randn(rows, 2, tokens, 8)


def test_a_growing_layer_holds_what_the_stock_layer_holds() -> None:
    torch.manual_seed(0)
    ours, stock = GrowingLayer(), DynamicLayer()
    rows = 3
    for tokens, change in ((5, None), (1, "repeat"), (70, "crop"), (1, "select"), (1, None)):
        new = states(tokens, rows)
        for one, other in zip(ours.update(*new), stock.update(*new)):
            assert torch.equal(one, other)
        if change == "repeat":
            ours.batch_repeat_interleave(2)
            stock.batch_repeat_interleave(2)
            rows *= 2
        if change == "crop":
            ours.crop(-9)
            stock.crop(-9)
        if change == "select":
            index = torch.tensor([4, 0])
            ours.batch_select_indices(index)
            stock.batch_select_indices(index)
            rows = 2
        assert ours.get_seq_length() == stock.get_seq_length()
        assert torch.equal(ours.keys, stock.keys) and torch.equal(ours.values, stock.values)


def test_a_step_writes_into_the_room_that_is_there() -> None:
    layer = GrowingLayer()
    layer.update(*states(5))
    before = layer.keys.data_ptr()
    layer.update(*states(1))
    assert layer.keys.data_ptr() == before and layer.keys.shape[2] == 6


def test_rows_that_ran_in_groups_answer_as_those_that_ran_alone() -> None:
    """A batch of more rows than a group, of very different lengths, with and without a shared beginning."""
    model = tiny_unproven()
    for head in ((), tuple(range(100, 140))):
        asked = [Prompt(str(i), (*head, *range(30 + i, 32 + 5 * i))) for i in range(20)]
        together = Engine(model, (), 0, unrender=str, max_new_tokens=6, batch_size=20)(asked)
        alone = Engine(model, (), 0, unrender=str, max_new_tokens=6, batch_size=1)(asked)
        assert [answer.tokens for answer in together] == [answer.tokens for answer in alone]


def test_layers_with_a_window_stay_the_stock_ones() -> None:
    assert {type(layer) for layer in growing_cache(tiny_llama().config).layers} == {GrowingLayer}
    stock = [type(layer) for layer in DynamicCache(config=tiny_sliding().config).layers]
    assert [type(layer) for layer in growing_cache(tiny_sliding().config).layers] == stock


@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize("mask", ["none", "bool", "added"])
def test_decoding_attention_is_stock_attention(heads: int, mask: str) -> None:
    torch.manual_seed(1)
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = heads // 2, True
    query = torch.randn(3, heads, 1, 8)
    room_key, room_value = states(40)
    key, value = room_key[:, :, :17], room_value[:, :, :17]
    shown = torch.rand(3, 1, 1, 17) > 0.3
    shown[..., 0] = True
    masks = {"none": None, "bool": shown, "added": torch.zeros(3, 1, 1, 17).masked_fill(~shown, torch.finfo().min)}
    ours, _ = decode_attention.decode_attention(module, query, key, value, masks[mask], scaling=0.3)
    stock, _ = sdpa_attention_forward(module, query, key, value, masks[mask], scaling=0.3)
    assert ours.shape == stock.shape
    assert torch.allclose(ours, stock, atol=1e-6)


def test_the_engine_decodes_with_it_and_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    stock = decode_attention.decode_attention

    def counted(module, query, *rest, **options):
        used.append(query.shape[2])
        return stock(module, query, *rest, **options)

    monkeypatch.setattr(decode_attention, "decode_attention", counted)
    model = tiny_unproven()
    Engine(model, (), 0, unrender=str, max_new_tokens=4)([Prompt("r", (30, 31, 32))])
    assert used.count(1) == 3 * model.config.num_hidden_layers and 3 in used
    assert model.config._attn_implementation == "sdpa"


def test_other_attention_is_left_alone() -> None:
    model = tiny_llama()
    model.set_attn_implementation("eager")
    with decode_attention.used(model):
        assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("mask", ["none", "bool", "added"])
def test_half_precision_reads_the_block_as_it_lies_and_sees_nothing_of_its_room(mask: str) -> None:
    torch.manual_seed(1)
    module = torch.nn.Module()
    query = torch.randn(3, 6, 1, 8).bfloat16()
    layer, new = GrowingLayer(), [x.bfloat16() for x in states(40)]
    key, value = layer.update(*new)
    for block in layer._blocks:
        block[:, :, 40:] = 1000.0
    shown = torch.rand(3, 1, 1, 40) > 0.3
    shown[..., 0] = True
    masks = {"none": None, "bool": shown, "added": torch.zeros(3, 1, 1, 40).masked_fill(~shown, torch.finfo().min)}
    dense, _ = decode_attention._dense(key, value)
    assert dense.data_ptr() == key.data_ptr() and dense.is_contiguous() and not key.is_contiguous()
    ours, _ = decode_attention.decode_attention(module, query, key, value, masks[mask])
    plain, _ = decode_attention.decode_attention(module, query, *new, masks[mask])
    torch.testing.assert_close(ours, plain, rtol=2e-2, atol=1e-2)
    assert decode_attention._dense(key.float(), value.float())[0].shape[2] == 40
