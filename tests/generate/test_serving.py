"""The serving engine: requests that join and leave answer as they would alone, whatever runs beside them."""

import random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import tiny_llama, tiny_sliding, tiny_unproven

from luthier.core.errors import DataError, ModelError, SettingsError
from luthier.core.types import Prompt
from luthier.generate.adapters import Adapters
from luthier.generate.engine import Engine
from luthier.generate.prefix import PIECE
from luthier.generate.request import Delta, Event, Finished, QueueFull, Sampling
from luthier.generate.serving import Request, ServingEngine
from luthier.generate.stream import StopStrings

STOPS = tuple(range(1, 24))
GREEDY = Sampling(temperature=0, max_tokens=20)


def decode(tokens) -> str:
    return "".join(f"<{token}>" for token in tokens)


def serving(model: torch.nn.Module, **options) -> ServingEngine:
    return ServingEngine(Adapters(model, 1 << 30), STOPS, decode=decode, context=256, **options)


def requests(count: int, sampling: Sampling = GREEDY, shared: int = 0) -> list[Request]:
    rng = random.Random(count + shared)
    head = [rng.randrange(24, 512) for _ in range(shared)]
    tails = [[rng.randrange(24, 512) for _ in range(rng.randint(1, 40))] for _ in range(count)]
    return [Request(f"r{i}", (*head, *tail), sampling) for i, tail in enumerate(tails)]


def run(engine: ServingEngine, asked: list[Request], each: int = 1) -> list[Event]:
    """Let `each` requests join at every step until all have ended."""
    events, left = [], list(asked)
    while left or engine.busy:
        for _ in range(min(each, len(left))):
            engine.submit(left.pop(0))
        events += engine.step()
    return events


def ends(events: list[Event]) -> dict[tuple[str, int], Finished]:
    return {(event.request, event.choice): event for event in events if isinstance(event, Finished)}


def texts(events: list[Event]) -> dict[tuple[str, int], str]:
    out: dict[tuple[str, int], str] = {}
    for event in events:
        if isinstance(event, Delta):
            out[event.request, event.choice] = out.get((event.request, event.choice), "") + event.text
    return out


@pytest.mark.parametrize("make", [tiny_llama, tiny_unproven, tiny_sliding])
@pytest.mark.parametrize("shared", [0, 40])
def test_requests_that_come_and_go_answer_as_the_batch_engine_does_one_by_one(make, shared: int) -> None:
    model, asked = make(), requests(8, shared=shared)
    found = ends(run(serving(model, max_rows=4), asked))
    alone = Engine(model, STOPS, 0, unrender=decode, max_new_tokens=20, batch_size=1)
    for request in asked:
        (answer,) = alone([Prompt(request.id, request.tokens)])
        assert found[request.id, 0].ids == answer.tokens
        assert found[request.id, 0].reason == answer.finish_reason
    assert {one.reason for one in found.values()} == {"stop", "length"}


@pytest.mark.parametrize("make", [tiny_llama, tiny_unproven])
def test_a_shared_beginning_is_computed_once_and_changes_nothing(make) -> None:
    model, asked = make(), requests(6, shared=3 * PIECE)
    found = ends(run(serving(model), asked, each=6))
    assert [found[request.id, 0].cached for request in asked] == [0] + [3 * PIECE] * 5
    cold = ends(run(serving(model, prefix_bytes=0), asked, each=6))
    assert {one.cached for one in cold.values()} == {0}
    assert {key: one.ids for key, one in cold.items()} == {key: one.ids for key, one in found.items()}


@pytest.mark.parametrize("make", [tiny_llama, tiny_unproven])
def test_a_known_prompt_is_answered_the_same_after_all_have_left_and_their_memory_is_given_back(make) -> None:
    engine, asked = serving(make()), requests(2, shared=3 * PIECE)
    before = ends(run(engine, asked, each=2))
    assert engine.stats()["bytes"]["rows"] == 0
    for each in (1, 2):
        again = ends(run(engine, asked, each=each))
        assert all(one.cached >= 3 * PIECE for one in again.values())
        assert {key: one.ids for key, one in again.items()} == {key: one.ids for key, one in before.items()}


def test_rows_that_begin_alike_hold_their_beginning_once() -> None:
    model = tiny_llama()
    shared = 10 * PIECE
    engine = serving(model)
    for request in requests(6, shared=shared):
        engine.submit(request)
    engine.step()
    engine.step()
    config = model.config
    a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * (config.hidden_size // 4) * 4
    lines = engine._states._lines
    assert len({id(one) for one in lines.beginnings}) == 1 and lines.columns == 64
    assert engine.stats()["bytes"]["rows"] == a_token * (shared + 6 * lines.columns)


def test_lines_get_narrow_again_when_the_longest_row_has_left() -> None:
    engine = serving(tiny_llama(), max_rows=4)
    long, short = (
        Request(name, tuple(range(30, 30 + size)), Sampling(temperature=0, max_tokens=most))
        for name, size, most in (("long", 150, 1), ("short", 5, 12))
    )
    engine.submit(long)
    engine.submit(short)
    engine.step()
    assert engine._states._lines.columns == 64  # of 160
    found = ends(run(engine, []))
    assert found["short", 0].ids == ends(run(serving(tiny_llama()), [short]))["short", 0].ids


@pytest.mark.parametrize("make", [tiny_llama, tiny_unproven])
def test_known_prompts_stay_within_their_bytes(make) -> None:
    engine = serving(make(), prefix_bytes=20_000)
    run(engine, requests(12, Sampling(temperature=0, max_tokens=2), shared=0), each=3)
    held = engine.stats()["bytes"]
    assert 0 < held["prefixes"] <= 20_000 and held["rows"] == 0


def test_a_sampled_answer_depends_on_its_seed_and_not_on_its_company() -> None:
    model = tiny_llama()
    drawn = Sampling(temperature=1.0, top_p=0.9, seed=5, max_tokens=12, presence_penalty=0.5, frequency_penalty=0.3)
    asked = requests(4, drawn)
    together = ends(run(serving(model), asked, each=4))
    for request in asked:
        assert ends(run(serving(model), [request]))[request.id, 0].ids == together[request.id, 0].ids
    other = [Request(one.id, one.tokens, Sampling(temperature=1.0, top_p=0.9, seed=6, max_tokens=12)) for one in asked]
    assert {k: v.ids for k, v in ends(run(serving(model), other)).items()} != {k: v.ids for k, v in together.items()}


def test_choices_of_one_request_differ_and_share_their_prompt() -> None:
    (request,) = requests(1, Sampling(temperature=1.0, seed=1, n=3, max_tokens=8))
    found = ends(run(serving(tiny_llama()), [request]))
    assert sorted(choice for _, choice in found) == [0, 1, 2]
    assert len({one.ids for one in found.values()}) == 3
    one_by_one = ends(run(serving(tiny_llama()), [Request("x", request.tokens, Sampling(seed=1, max_tokens=8))]))
    assert found["r0", 0].ids == one_by_one["x", 0].ids


def test_penalties_keep_a_model_from_repeating_itself() -> None:
    asked = requests(6, Sampling(temperature=0, max_tokens=24))

    def repeated(sampling: Sampling) -> int:
        found = ends(run(serving(tiny_llama()), [Request(r.id, r.tokens, sampling) for r in asked], each=6))
        return sum(len(one.ids) - len(set(one.ids)) for one in found.values())

    plain = repeated(Sampling(temperature=0, max_tokens=24))
    assert plain > 0
    assert repeated(Sampling(temperature=0, max_tokens=24, frequency_penalty=2, presence_penalty=2)) < plain


def test_a_stop_string_ends_the_answer_before_itself_even_across_tokens() -> None:
    model, (request,) = tiny_llama(), requests(1, Sampling(temperature=0, max_tokens=20))
    whole = texts(run(serving(model), [request]))["r0", 0]
    at = whole.index("><", 8)
    stop = whole[at : at + 3]
    cut = run(serving(model), [Request("r0", request.tokens, Sampling(temperature=0, max_tokens=20, stop=(stop,)))])
    assert texts(cut)["r0", 0] == whole[: whole.index(stop)]
    assert ends(cut)["r0", 0].reason == "stop"


def test_what_may_become_a_stop_string_is_held_back_and_let_go() -> None:
    stops = StopStrings(("END", "\n\n"))
    assert [stops.push(piece) for piece in ("aE", "N", "x\n", "b\n", "\nrest")] == ["a", "", "ENx", "\nb", ""]
    assert stops.stopped
    open_end = StopStrings(("END",))
    assert open_end.push("xEN") + open_end.rest() == "xEN"


def test_log_probabilities_are_those_of_the_model() -> None:
    model, (request,) = tiny_llama(), requests(1, Sampling(temperature=0, max_tokens=6, logprobs=3))
    events = run(serving(tiny_llama()), [request])
    ids = ends(events)["r0", 0].ids
    told = [token for event in events if isinstance(event, Delta) for token in event.tokens]
    with torch.no_grad():
        logs = torch.log_softmax(model(torch.tensor([[*request.tokens, *ids]])).logits[0], dim=-1)
    for place, token in enumerate(told):
        row = logs[len(request.tokens) - 1 + place]
        assert token.logprob == pytest.approx(float(row[ids[place]]), abs=1e-4)
        assert [text for text, _ in token.top] == [decode([i]) for i in row.topk(3).indices.tolist()]


def test_a_cancelled_request_frees_its_row_at_the_next_step() -> None:
    engine, asked = serving(tiny_llama(), max_rows=1), requests(3, Sampling(temperature=0, max_tokens=20))
    for request in asked:
        engine.submit(request)
    engine.step()
    engine.cancel("r0")
    engine.cancel("r2")
    events = engine.step()
    assert {key: one.reason for key, one in ends(events).items()} == {("r0", 0): "cancelled", ("r2", 0): "cancelled"}
    assert engine.stats()["running"] == 1 and engine.stats()["waiting"] == 0


def test_the_queue_is_bounded_and_what_can_never_be_answered_is_refused() -> None:
    engine = serving(tiny_llama(), max_rows=2, max_waiting=2)
    first, second, third = requests(3)
    engine.submit(first)
    engine.submit(second)
    with pytest.raises(QueueFull, match="2 requests"):
        engine.submit(third)
    with pytest.raises(DataError, match="context"):
        engine.submit(Request("long", tuple([30] * 256)))
    with pytest.raises(DataError, match="at most 2"):
        engine.submit(Request("many", (30,), Sampling(n=3)))
    with pytest.raises(ModelError, match="no adapter"):
        engine.submit(Request("who", (30,), adapter="nobody"))
    with pytest.raises(SettingsError, match=r"temperature is 9.*top_p is 2"):
        Sampling(temperature=9, top_p=2)


def adapter(tmp_path, name: str, seed: int):
    """An adapter of random weights on disk."""
    torch.manual_seed(seed)
    model = get_peft_model(tiny_llama(), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.normal_(std=0.3)
    model.save_pretrained(tmp_path / name)
    return tmp_path / name, model


@pytest.mark.parametrize("make", [tiny_llama, tiny_unproven])
def test_adapters_of_one_batch_answer_each_as_alone(tmp_path, make) -> None:
    adapters = Adapters(make(), 1 << 30)
    wanted = {None: tiny_llama()}
    for seed, name in enumerate(("a", "b")):
        folder, wanted[name] = adapter(tmp_path, name, seed + 1)
        adapters.load(name, folder)
    engine = ServingEngine(adapters, STOPS, decode=decode, context=256)
    plain = requests(6, shared=2 * PIECE)
    asked = [Request(one.id, one.tokens, one.sampling, [None, "a", "b"][i % 3]) for i, one in enumerate(plain)]
    found = ends(run(engine, asked, each=6))
    for request in asked:
        alone = Engine(wanted[request.adapter], STOPS, 0, unrender=decode, max_new_tokens=20, batch_size=1)
        assert found[request.id, 0].ids == alone([Prompt("x", request.tokens)])[0].tokens
    assert adapters.names == ("a", "b")


@pytest.mark.parametrize("make", [tiny_llama, tiny_unproven])
def test_a_reloaded_adapter_forgets_prompts_computed_with_the_old_one(tmp_path, make) -> None:
    (old, _), (new, model) = adapter(tmp_path, "old", 1), adapter(tmp_path, "new", 2)
    adapters = Adapters(make(), 1 << 30)
    engine = ServingEngine(adapters, STOPS, decode=decode, context=256)
    (plain,) = requests(1, shared=40)
    request = Request("r", plain.tokens, GREEDY, "x")
    for folder in (old, new):
        adapters.load("x", folder)
        found = ends(run(engine, [request]))["r", 0]
        assert found.cached == 0
    alone = Engine(model, STOPS, 0, unrender=decode, max_new_tokens=20)
    assert found.ids == alone([Prompt("x", request.tokens)])[0].tokens


def test_adapters_that_nobody_uses_are_evicted_by_memory(tmp_path) -> None:
    folder, _ = adapter(tmp_path, "a", 1)
    adapters = Adapters(tiny_llama(), limit_bytes=1)
    adapters.load("first", folder)
    adapters.load("second", folder, in_use={"first"})
    assert adapters.names == ("first", "second")
    adapters.load("third", folder)
    assert adapters.names == ("third",)
    adapters.unload("third")
    engine = ServingEngine(adapters, STOPS, decode=decode, context=256)
    base = ends(run(engine, requests(1)))["r0", 0].ids
    assert base == ends(run(serving(tiny_llama()), requests(1)))["r0", 0].ids


@pytest.mark.parametrize("make", [tiny_llama, tiny_unproven])
def test_a_row_that_breaks_ends_alone_and_does_not_spoil_its_line(tmp_path, make) -> None:
    folder, _ = adapter(tmp_path, "bad", 1)
    adapters = Adapters(make(), 1 << 30)
    adapters.load("bad", folder)
    with torch.no_grad():
        next(p for n, p in adapters.model.named_parameters() if "lora_B" in n).fill_(float("nan"))
    engine = ServingEngine(adapters, STOPS, decode=decode, context=256)
    good, also = requests(2)
    bad = Request("bad", tuple(range(30, 130)), GREEDY, "bad")
    found = ends(run(engine, [bad, good, also], each=3))
    assert found["bad", 0].reason == "error" and "finite" in found["bad", 0].error
    clean = ends(run(serving(make()), [good, also], each=2))
    assert {key: one.ids for key, one in clean.items()} == {key: found[key].ids for key in clean}
