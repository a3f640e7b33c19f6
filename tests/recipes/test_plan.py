"""What a training takes is told before it runs: the figures are those of the run itself, and each setting moves them."""

import json
from pathlib import Path

import pytest
from command import luthier, needs_starter
from test_layout import PROMPT, planned, said
from tiny_training import live_lora, policy_of, random_store, resolved, tiny_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

import luthier as luthier_package
from luthier.config.load import load, with_values
from luthier.core.errors import ResourceError, SettingsError
from luthier.core.journal import entries
from luthier.core.types import JsonObject, JsonValue
from luthier.data.loader import as_tree, micro_batches, packed
from luthier.kernels import native_attention, tree_attention
from luthier.models.flops import Work, step_flops
from luthier.models.sizes import lora_weights, shape_of
from luthier.recipes import fitting
from luthier.recipes.fitting import Ground, Leeway, Weigher, fit, shape
from luthier.recipes.forecast import plan
from luthier.recipes.job import Job
from luthier.recipes.pace import first_epoch, more_layers, save_seconds, shallow_config, sizes_timed, update_seconds
from luthier.recipes.train import train_stage
from luthier.recipes.voice import Voice
from luthier.train.clock import memory_bytes

OPEN = Leeway(micro_tokens=True, checkpointing=True)
SETTINGS: JsonObject = {
    "split.near_duplicate": 1, "split.test_rows": 6, "model.dtype": "float32", "threads": 1, "train.steps": 1,
    "compare.folds": 0,
}  # fmt: skip


def forecast(
    data: Path, gpus: tuple[str, ...] = ("rtx4090",), price: float | None = None, **more: JsonValue
) -> JsonObject:
    named = SETTINGS | {"data.path": str(data)} | {f"train.{key}": value for key, value in more.items()}
    return plan(None, load([], [], named), gpus, price, Voice(quiet=True))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Job:
    """The plan of a run, as `luthier run` makes it."""
    return planned(tmp_path_factory.mktemp("planned"), PROMPT)


@pytest.fixture(scope="module")
def found(run) -> JsonObject:
    """What is foretold of the same rows."""
    return forecast(run.run.path.parent / "rows.jsonl", price=2.0)


@needs_starter
def test_the_forecast_is_the_plan_of_the_run(run, found):
    truth = run.plan
    training, machine = found["training"], found["machines"][0]
    assert training["tokens"] == truth["tokens"] and training["steps"] == truth["steps"]
    assert training["layout"] == "tree" == run.settings.train.layout
    assert machine["compiling"]["compiled"] is False is run.settings.train.compile
    assert found["machines"][1]["compiling"] is None and machine["compiling"]["words"] in said(run)
    assert found["data"]["processed_per_token"] == truth["processed_per_token"] < 0.6
    assert training["processed_tokens"] == pytest.approx(truth["processed_per_token"] * truth["tokens"], rel=0.05)
    assert found["model"]["trained_weights"] == pytest.approx(truth["trained_weights"], rel=0.01)
    for name, num_bytes in truth["memory"].items():
        assert name == "rest" or machine["memory"][name] == num_bytes > 0
    held = memory_bytes()  # by this process, for the one that trains
    assert (
        machine["memory"]["rest"] == pytest.approx(truth["memory"]["rest"], rel=0.3)
        and machine["memory"]["rest"] > held / 2
    )
    assert machine["memory_bytes"] == sum(machine["memory"].values()) and machine["fits"] and machine["with"] == {}
    assert machine["seconds"] > 0 and machine["money"] == pytest.approx(machine["seconds"] / 1800, abs=1e-3)
    assert found["machines"][1]["memory"]["activations"] < machine["memory"]["activations"]  # bfloat16 there
    assert "assumed" in found["machines"][1]["seconds_from"]


@needs_starter
def test_method_and_sharing_move_the_figures(run, found):
    data, full = run.run.path.parent / "rows.jsonl", found
    lora, alone = (forecast(data, **more) for more in ({"method": "lora"}, {"layout": "packed"}))
    assert lora["model"]["trained_weights"] < full["model"]["trained_weights"] / 2
    assert lora["machines"][0]["memory"]["optimizer"] < full["machines"][0]["memory"]["optimizer"] / 2
    assert lora["training"]["flops"] < full["training"]["flops"] < alone["training"]["flops"]
    assert alone["training"]["processed_tokens"] > 1.5 * full["training"]["processed_tokens"]
    assert lora["disk_bytes"] < full["disk_bytes"]


@needs_starter
def test_the_command_needs_no_weights_and_prints_a_line_for_each_machine(run, tmp_path):
    for name in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        source = run.folder.path / name
        if source.exists():
            (tmp_path / name).write_bytes(source.read_bytes())
    flags = [f"--set={key}={json.dumps(value)}" for key, value in (SETTINGS | {"compare.folds": 2}).items()]
    called = luthier(
        "plan", str(run.run.path.parent / "rows.jsonl"), "--model", str(tmp_path), "--gpu", "h100=2.5", *flags
    )
    assert called.code == 0, called.err
    assert "this machine" in called.out and "h100" in called.out and "GiB" in called.out
    assert "2 trainings more prove it" in called.out


@needs_starter
def test_python_is_told_the_same(run, found):
    data = run.run.path.parent / "rows.jsonl"
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    settings = dict(SETTINGS)
    told = luthier_package.plan(rows, gpus=["rtx4090"], price=2.0, settings=settings, quiet=True)
    assert told["data"] == found["data"] and told["machines"][1] == found["machines"][1]


def test_an_unknown_gpu_and_a_wrong_price_are_named():
    settings = load([], [], {"data.path": "rows.jsonl"})
    with pytest.raises(SettingsError, match="h100, h200"):
        plan(None, settings, ["h101"], None, Voice(quiet=True))
    with pytest.raises(SettingsError, match="no price"):
        plan(None, settings, ["h100=two"], None, Voice(quiet=True))


@needs_starter
def test_the_plan_saves_memory_where_it_may_and_says_what_else_would_help(run):
    store, before = run.rendered("train").store, run.settings
    weigher = Weigher(run, store)
    whole = weigher.memory(run.settings, Ground(True, 0, "float32")).total
    try:
        for free, chosen in ((whole, False), (whole - 1, True)):
            run.settings = before
            memory = fit(run, store, Leeway(micro_tokens=False, checkpointing=True), Ground(True, free, "float32"))
            assert run.settings.train.gradient_checkpointing is chosen
            assert weigher.memory(run.settings, Ground(True, 0, "float32")).total <= free <= memory.total
        assert "gradient_checkpointing=true" in said(run)
        run.settings = before
        with pytest.raises(ResourceError, match=r"try --set train\.micro_tokens"):
            fit(run, store, Leeway(micro_tokens=False, checkpointing=False), Ground(True, whole - 1, "float32"))
        with pytest.raises(ResourceError, match=r"no setting makes this model fit"):
            fit(run, store, OPEN, Ground(True, 1 << 20, "float32"))
        adapter = list(weigher.ways_that_fit(run.settings, Ground(True, int(whole * 0.75), "float32")))
        assert adapter and not adapter[0].exact
    finally:
        run.settings = before


@needs_starter
def test_after_training_predicted_stands_beside_measured(run):
    train_stage(run)
    assert "predicted" in said(run).splitlines()[-1]


@needs_starter
def test_after_a_tenth_of_the_steps_it_is_noted_what_is_left(tmp_path):
    job = planned(tmp_path, PROMPT, steps=4)
    train_stage(job)
    (noted,) = [entry for entry in entries(job.run.events) if entry["event"] == "foretold"]
    assert noted["step"] == 1 and 0 < float(str(noted["seconds_left"])) < 60
    assert job.plan["save_seconds"] > 0


@needs_starter
def test_a_step_above_the_mean_is_still_one_micro_batch(tmp_path):
    job = planned(tmp_path, PROMPT, batch_tokens=400, layout="packed")
    train, store = job.settings.train, job.training_store
    cut = [list(micro_batches(store, step, train.micro_tokens or 0, "packed")) for step in first_epoch(job, store)]
    whole = cut[:-1]  # the last step takes what is left of an epoch
    assert max(sum(batch.num_positions for batch in batches) for batches in whole) > 400 == train.batch_tokens
    assert {len(batches) for batches in whole} == {1}


@needs_starter
@pytest.mark.parametrize(("batch_tokens", "micro_tokens"), [(400, 500), (8192, 10_240), (9000, 5625), (20_000, 8333)])
def test_large_steps_are_cut_into_few_equal_parts_with_room(tmp_path, batch_tokens, micro_tokens):
    job = planned(tmp_path, PROMPT, batch_tokens=batch_tokens, layout="packed")
    assert job.settings.train.micro_tokens == micro_tokens


@needs_starter
def test_the_last_step_of_an_epoch_is_weighed_too(tmp_path, monkeypatch):
    job = planned(tmp_path, PROMPT, batch_tokens=400, steps=100, layout="packed", micro_tokens=4000)
    store, ground = job.training_store, Ground(True, 0, "bfloat16")
    steps = first_epoch(job, store)
    packed_sizes = [packed(store, step).num_positions for step in steps]
    assert len(steps) > 2 and packed_sizes[-1] > packed_sizes[0], "else this shows nothing"
    monkeypatch.setattr(fitting, "_STEPS_WEIGHED", 1)
    to_the_end = Weigher(job, store).memory(job.settings, ground).activations
    job.settings = with_values(job.settings, {"train.steps": 1})
    not_so_far = Weigher(job, store).memory(job.settings, ground).activations
    assert to_the_end / not_so_far == pytest.approx(packed_sizes[-1] / packed_sizes[0], rel=1e-3)


@needs_starter
@pytest.mark.parametrize("layout", ["packed", "tree"])
def test_steps_of_several_micro_batches_are_weighed_with_the_gradients_of_the_earlier_ones(tmp_path, layout):
    job = planned(tmp_path, PROMPT, batch_tokens=400, layout=layout, method="full")
    weigher = Weigher(job, job.training_store)
    several, one = (
        weigher.memory(with_values(job.settings, {"train.micro_tokens": micro}), Ground(True, 0, "bfloat16"))
        for micro in (weigher.longest, 4000)
    )
    num_trained = weigher.num_trained(job.settings)
    assert several.gradients == 6 * num_trained
    assert one.gradients == max(2 * num_trained, 4 * num_trained - one.activations - one.head)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("layout", ["packed", "tree"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_operations_are_those_that_torch_counts(method, layout, checkpointing, monkeypatch):
    monkeypatch.setattr(
        native_attention, "library_for", lambda *_: None
    )  # torch does not see what compiled functions do
    store = random_store(10, shared=40)
    settings = resolved(method=method, layout=layout, gradient_checkpointing=checkpointing)
    policy = policy_of(tiny_model().train(), settings)
    live_lora(policy.model)
    batch = as_tree(store, range(10)) if layout == "tree" else packed(store, range(10))
    policy.weighted_nll(batch)  # what is found out about norms and gates first is not the step's work
    with FlopCounterMode(display=False) as counter:
        policy.weighted_nll(batch).backward()
    shape = shape_of(policy.stock.config.to_dict())
    blocks = tree_attention.blocks(batch.tree.segments) if batch.tree else ()
    scores = sum(block.num_scores for block in blocks) if blocks else sum(place**2 for place in batch.places)
    work = Work(batch.num_positions, len(batch.target_T), scores)
    counted = step_flops(shape, work, lora_weights(shape, 4), full=method == "full", checkpointing=checkpointing)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.12)


@needs_starter
def test_a_checkpoint_of_more_weights_is_foretold_longer_and_nothing_of_the_trial_stays(run):
    before = sorted(run.run.path.rglob("*"))
    small, large = (save_seconds(run, num_trained) for num_trained in (10_000, 40_000_000))
    assert 0 < small < large
    assert sorted(run.run.path.rglob("*")) == before


@needs_starter
def test_what_is_timed_lies_in_tensors_as_large_as_the_models(run):
    layers, before = shape(run).num_layers, run.settings
    try:
        for method, tensors in (("lora", 14 * layers), ("full", 7 * layers)):
            run.settings = with_values(before, {"train.method": method})
            sizes = sizes_timed(run, 1_000_000, 1_000_000)
            assert len(sizes) == tensors and 0.99e6 < sum(sizes) <= 1e6
            assert len(sizes_timed(run, 1_000_000, 4_000_000)) == pytest.approx(tensors / 4, abs=1)
    finally:
        run.settings = before


@needs_starter
@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit"])
def test_an_update_is_timed_with_the_optimizer_that_trains(run, optimizer):
    before, run.settings = run.settings, with_values(run.settings, {"train.optimizer": optimizer})
    try:
        assert update_seconds(run, 2_000_000) > 0 and update_seconds(run, 3) > 0
    finally:
        run.settings = before


def test_a_shallow_config_keeps_an_entry_for_each_layer_left():
    config = AutoConfig.for_model("qwen3", num_hidden_layers=6, layer_types=["full_attention"] * 6)
    small = shallow_config(config, 2)
    assert small.num_hidden_layers == 2 and len(small.layer_types) == 2
    assert config.num_hidden_layers == 6


@pytest.mark.parametrize(
    ("seconds", "bytes_a_layer", "layers"),
    [(0.1, 1e6, 30), (2.5, 1e6, 24), (20.0, 1e6, 6), (0.1, 1e8, 10), (0.1, 1e9, 6)],
)
def test_as_many_layers_are_timed_as_time_and_memory_allow(seconds, bytes_a_layer, layers):
    """The more are timed, the less the straight line to all layers magnifies an error: 7 times from 2 and 6 to 30."""
    assert more_layers(2, 30, seconds, bytes_a_layer) == layers
    assert more_layers(2, 4, seconds, bytes_a_layer) == 4
