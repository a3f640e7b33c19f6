"""AdamW with averages in bytes: near AdamW in float32, a quarter of its bytes, and exact over a checkpoint."""

import pytest
import torch
from tiny_training import new_run, resolved, tiny_model, train

from luthier.core.journal import entries
from luthier.train.blockwise import BLOCK, ROOTS, SIGNED, BlockwiseAdamW, Packed
from luthier.train.optim import MasterAdamW

SETTINGS = {"optimizer": "adamw8bit", "clip": 0.0, "weight_decay": 0.01}


def packed(numbers: torch.Tensor, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Numbers, written and read again."""
    one = Packed.zeros(numbers.numel(), dtype, numbers.device)
    table = one.scale.table(numbers.device)
    one.write(slice(None), numbers.view(-1, BLOCK), table, torch.Generator().manual_seed(seed))
    return one.read(slice(None), table).view_as(numbers)


def test_every_magnitude_of_a_byte_is_read_as_it_was_written():
    for scale, dtype in ((SIGNED, torch.int8), (ROOTS, torch.uint8)):
        table = scale.table(torch.device("cpu"))
        numbers = torch.nn.functional.pad(table, (0, -len(table) % BLOCK)) * 3
        torch.testing.assert_close(packed(numbers, dtype), numbers, rtol=1e-5, atol=0)


def test_a_number_is_rounded_to_one_of_its_neighbours_and_right_in_the_mean():
    torch.manual_seed(1)
    numbers = torch.randn(64 * BLOCK)
    once = packed(numbers, torch.int8)
    assert ((once - numbers).abs() <= 0.08 * numbers.abs() + 1e-3).all()
    mean = sum(packed(numbers, torch.int8, seed) for seed in range(200)) / 200
    assert ((mean - numbers).norm() / numbers.norm()).item() < 0.004 < ((once - numbers).norm() / numbers.norm()).item()


def test_a_root_is_never_rounded_to_zero():
    numbers = torch.full((BLOCK,), 1e-9)
    numbers[0] = 1.0
    assert (packed(numbers, torch.uint8) > 0).all()
    assert (packed(torch.zeros(BLOCK), torch.uint8) == 0).all()


def walked(optimizer: MasterAdamW, weight: torch.nn.Parameter, steps: range) -> None:
    for step in steps:
        scale = torch.logspace(-3, 0, weight.numel()).view_as(weight)
        weight.grad = (torch.sin(torch.arange(weight.numel()) * (1 + step)).view_as(weight) * scale + 0.3 * scale).to(
            weight.dtype
        )
        optimizer.accumulate()
        optimizer.step(0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_moves_weights_as_adamw_in_float32_does_with_a_quarter_of_the_bytes(dtype):
    torch.manual_seed(0)
    start = torch.randn(70, 90).to(dtype)
    weights = {name: torch.nn.Parameter(start.clone()) for name in ("adamw", "adamw8bit")}
    optimizers = {n: MasterAdamW({"w": w}, resolved(**(SETTINGS | {"optimizer": n}))) for n, w in weights.items()}
    for name, weight in weights.items():
        walked(optimizers[name], weight, range(60))
    moved = {name: optimizers[name].masters["w"].detach() - start.float() for name in weights}
    off = (moved["adamw8bit"] - moved["adamw"]).norm() / moved["adamw"].norm()
    assert 0 < off < 0.06
    averages = {
        n: sum(t.nbytes for key, t in o.tensors().items() if not key.startswith("master"))
        for n, o in optimizers.items()
    }
    assert averages["adamw"] >= 8 * start.numel()
    assert averages["adamw8bit"] <= 2.1 * start.numel()
    block = optimizers["adamw8bit"]._averages
    assert isinstance(block, BlockwiseAdamW) and block.num_bytes() <= 2.1 * start.numel()


def test_weight_decay_is_that_of_adamw():
    weights = {name: torch.nn.Parameter(torch.full((4, 4), 2.0)) for name in ("adamw", "adamw8bit")}
    for name, weight in weights.items():
        optimizer = MasterAdamW({"w": weight}, resolved(optimizer=name, weight_decay=0.5, clip=0.0))
        weight.grad = torch.zeros_like(weight)
        optimizer.step(0.1)
    torch.testing.assert_close(weights["adamw8bit"], weights["adamw"])
    assert weights["adamw8bit"][0, 0].item() == pytest.approx(1.9)


def test_a_checkpoint_goes_on_to_the_bit():
    weights = [torch.nn.Parameter(torch.linspace(-1, 1, 3000).view(50, 60).to(torch.bfloat16)) for _ in range(3)]
    straight, begun, resumed = (MasterAdamW({"w": weight}, resolved(**SETTINGS)) for weight in weights)
    walked(straight, weights[0], range(9))
    walked(begun, weights[1], range(5))
    resumed.load({name: tensor.clone() for name, tensor in begun.tensors().items()})
    walked(resumed, weights[2], range(5, 9))
    mine, theirs = resumed.tensors(), straight.tensors()
    assert set(mine) == set(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_whole_training_learns_as_well_and_resumes_to_the_bit(tmp_path):
    changes = {"steps": 16, "lr": 3e-3, "schedule": "constant"}
    losses: dict[str, list[float]] = {}
    for name in ("adamw", "adamw8bit"):
        run = new_run(tmp_path / name)
        train(run.path, resolved(optimizer=name, **changes))
        losses[name] = [float.fromhex(str(entry["loss"])) for entry in entries(run.metrics)]
    assert losses["adamw8bit"] != losses["adamw"]
    assert losses["adamw8bit"] == pytest.approx(losses["adamw"], rel=0.01)


def test_averages_of_the_other_optimizer_are_refused():
    made = {
        n: MasterAdamW(dict(tiny_model().named_parameters()), resolved(optimizer=n)) for n in ("adamw", "adamw8bit")
    }
    for optimizer in made.values():
        for parameter in optimizer.parameters.values():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step(1e-3)
    assert made["adamw"].mismatch(made["adamw"].tensors()) is None
    assert "train.optimizer" in str(made["adamw"].mismatch(made["adamw8bit"].tensors()))
    assert "train.optimizer" in str(made["adamw8bit"].mismatch(made["adamw"].tensors()))
