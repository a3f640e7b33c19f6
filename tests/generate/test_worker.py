"""The engine in its own process: asked, stopped, killed and started again."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from luthier.core.errors import DataError, ModelError, SettingsError
from luthier.core.types import JsonObject
from luthier.generate.client import Ask, Ended, EngineClient, EngineDied, EngineSpec
from luthier.generate.request import Delta, Finished, QueueFull, Sampling, TokenLogprob
from luthier.generate.wire import error_as_json, error_from_json, event_as_json, event_from_json

SHORT = Sampling(temperature=0, max_tokens=8)
LONG = Sampling(temperature=0, max_tokens=400, n=1)


def ask(text: str = "Say something.", sampling: Sampling = SHORT, **options) -> Ask:
    return Ask([{"role": "user", "content": text}], sampling=sampling, **options)


@pytest.fixture(scope="module")
def client() -> Iterator[EngineClient]:
    one = EngineClient(EngineSpec(threads=1, max_rows=4, max_waiting=8), start_seconds=300, silence_seconds=300)
    yield one
    one.close()


def whole(answer) -> tuple[str, Ended]:
    """The text of a one-choice answer and its end."""
    events = list(answer)
    assert isinstance(events[-1], Ended)
    return "".join(event.text for event in events if isinstance(event, Delta)), events[-1]


def test_the_client_imports_no_torch() -> None:
    code = "import sys, luthier.generate.client; print('torch' in sys.modules or 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_answer_streams_and_is_the_same_again(client: EngineClient) -> None:
    text, end = whole(client.ask(ask()))
    again, other = whole(client.ask(ask()))
    assert text == again and end.finished.ids == other.finished.ids
    assert end.finished.reason in ("stop", "length") and end.finished.tokens_in > 0
    assert end.content in text
    assert client.stats()["requests"] == 2


def test_threads_ask_at_once_and_get_their_own(client: EngineClient) -> None:
    words = ["red", "blue", "green", "black", "white", "brown"]
    alone = {word: whole(client.ask(ask(word)))[0] for word in words}
    together: dict[str, str] = {}
    threads = [
        threading.Thread(target=lambda w=w: together.__setitem__(w, whole(client.ask(ask(w)))[0])) for w in words
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_a_constraint_and_log_probabilities_cross_the_pipe(client: EngineClient) -> None:
    text, _ = whole(client.ask(ask(constraint={"choice": ["yes", "no"]})))
    assert text in ("yes", "no")
    events = list(client.ask(ask(sampling=Sampling(temperature=0, max_tokens=3, logprobs=2))))
    tokens = [token for event in events if isinstance(event, Delta) for token in event.tokens]
    assert tokens and all(token.logprob <= 0 and len(token.top) == 2 for token in tokens)


def test_an_adapter_is_loaded_with_the_first_request_for_it(client: EngineClient, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(str(files("luthier.starter") / "model"))
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path)
    plain = whole(client.ask(ask()))[1].finished.ids
    adapted = [whole(client.ask(ask(adapter="a1", adapter_folder=tmp_path)))[1].finished.ids for _ in range(2)]
    assert adapted[0] == adapted[1] != plain
    assert whole(client.ask(ask()))[1].finished.ids == plain
    assert client.stats()["adapters"] == ["a1"]
    with pytest.raises(ModelError, match="is no adapter"):
        list(client.ask(ask(adapter="a2", adapter_folder=tmp_path / "none")))


def test_what_cannot_be_answered_is_refused_with_its_own_error(client: EngineClient) -> None:
    for bad, kind in (
        (ask("x " * 5000), DataError),
        (ask(adapter="nobody"), ModelError),
        (ask(constraint={"schema": {"$ref": "http://example.com/x"}}), SettingsError),
        (ask(constraint={"jsn": True}), DataError),
        (Ask([{"role": "bystander", "content": "x"}]), DataError),
    ):
        with pytest.raises(kind):
            list(client.ask(bad))
    assert whole(client.ask(ask()))[0]


def test_a_cancelled_answer_ends_soon(client: EngineClient) -> None:
    answer = client.ask(ask("Count.", Sampling(temperature=1.5, seed=3, max_tokens=400, stop=("\0",))))
    answer.cancel()
    assert [event.finished.reason for event in answer if isinstance(event, Ended)] in (["cancelled"], ["stop"])
    assert client.stats()["running"] == 0


def test_a_full_queue_says_so(client: EngineClient) -> None:
    answers = [client.ask(ask(sampling=Sampling(seed=1, max_tokens=40, temperature=1.5))) for _ in range(40)]
    full = 0
    for answer in answers:
        try:
            list(answer)
        except QueueFull:
            full += 1
    assert 0 < full < 40


def test_a_killed_process_ends_its_answers_with_a_clear_error_and_the_next_one_works(client: EngineClient) -> None:
    before = whole(client.ask(ask()))[0]
    answers = [client.ask(ask(sampling=Sampling(temperature=1.5, seed=2, max_tokens=1000))) for _ in range(3)]
    assert client.pid is not None
    os.kill(client.pid, signal.SIGKILL)
    for answer in answers:
        with pytest.raises(EngineDied, match="Ask again"):
            list(answer)
    assert whole(client.ask(ask()))[0] == before


def test_a_process_that_hangs_is_ended_and_replaced(client: EngineClient) -> None:
    client.stats()
    assert client.pid is not None
    hung = client.pid
    os.kill(hung, signal.SIGSTOP)
    answer = client.ask(ask())
    client.silence_seconds = 0.5
    with pytest.raises(EngineDied, match="said nothing"):
        list(answer)
    client.silence_seconds = 300
    assert whole(client.ask(ask()))[0]
    assert client.pid != hung


def test_a_model_that_is_not_there_is_said_at_the_first_request() -> None:
    one = EngineClient(EngineSpec(name="./no-such-model"))
    with pytest.raises(ModelError, match="no-such-model"):
        one.ask(ask())
    one.close()


def test_the_process_ends_when_its_input_does(client: EngineClient) -> None:
    """As it does when the parent is no more."""
    answer = client.ask(ask(sampling=Sampling(temperature=1.5, seed=2, max_tokens=1000)))
    answer.process.stdin.close()
    assert answer.process.wait(60) == 0


def test_events_and_errors_read_as_they_were_written() -> None:
    delta = Delta("1", 0, "é\n", (TokenLogprob("é", -0.5, (("é", -0.5), ("\ufffd", -2.0))),))
    end = Finished("1", 2, "length", 5, 0, (1, 2), None)
    for event in (delta, end):
        message: JsonObject = event_as_json(event)
        assert event_from_json(message) == event
    assert isinstance(error_from_json(error_as_json(QueueFull("later"))), QueueFull)
