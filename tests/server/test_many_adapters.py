"""Several tuned models over one base answer in one process, side by side, within their bytes; what prompts share is computed once."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from openai import OpenAI
from safetensors.numpy import save_file
from serving import Served, running
from test_chat import figures

MODEL = Path(str(files("luthier.starter") / "model"))
pytestmark = pytest.mark.skipif(
    not (MODEL / "model.safetensors").exists(), reason="the starter's weights are not in this checkout"
)
NAMES, RANK = ("red", "green", "blue"), 4
ASKED = {
    "messages": [{"role": "user", "content": "Say something of the sea, and of the ships that sail on it, please."}]
}


def tuned_run(path: Path, seed: int) -> Path:
    """A run folder whose package is an adapter of random weights over the starter."""
    config, rng = json.loads((MODEL / "config.json").read_text()), np.random.default_rng(seed)
    width, out = config["hidden_size"], config["num_attention_heads"] * config["head_dim"]
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{{}}.weight"
        tensors[name.format("A")] = rng.normal(0, 0.3, (RANK, width)).astype(np.float32)
        tensors[name.format("B")] = rng.normal(0, 0.3, (out, RANK)).astype(np.float32)
    (path / "package").mkdir(parents=True)
    save_file(tensors, path / "package" / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (path / "package" / "adapter_config.json").write_text(json.dumps(settings))
    (path / "config.yaml").write_text("model: {name: starter}\n")
    (path / "events.jsonl").write_text(json.dumps({"event": "trained", "best_step": 1}) + "\n")
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("adapters")
    models = {name: str(tuned_run(folder / name, seed)) for seed, name in enumerate(NAMES)}
    one = (folder / "red" / "package" / "adapter_model.safetensors").stat().st_size
    with running(folder / "data", {"models": models, "adapter_bytes": 2 * one, "answers": 8}) as server:
        yield server


def answer(client: OpenAI, name: str) -> str:
    made = client.chat.completions.create(model=name, **ASKED, temperature=0, max_tokens=12)
    return str(made.choices[0].message.content)


def test_each_answers_in_company_as_it_does_alone_in_one_process(served: Served):
    client = served.client().with_options(timeout=240)
    names = ("starter", *NAMES)
    alone = {name: answer(client, name) for name in names}
    assert len(set(alone.values())) == len(names)
    with ThreadPoolExecutor(8) as pool:  # more adapters than their bytes allow: those that nobody asks for make room
        together = list(pool.map(lambda name: (name, answer(client, name)), names * 2))
    assert all(text == alone[name] for name, text in together)
    assert figures(served)["luthier_engine_processes"] == 1


def test_what_a_prompt_begins_with_is_computed_once_and_for_each_adapter_anew(served: Served):
    client = served.client().with_options(timeout=240)
    longer = [{"role": "user", "content": ASKED["messages"][0]["content"] + " And then of the harbour."}]
    answer(client, "red")
    known = client.chat.completions.create(model="red", messages=longer, max_tokens=1)
    other = client.chat.completions.create(
        model="green", messages=[{"role": "user", "content": "Well, " * 30}], max_tokens=1
    )
    assert known.usage and known.usage.prompt_tokens_details and other.usage and other.usage.prompt_tokens_details
    assert (
        known.usage.prompt_tokens_details.cached_tokens >= 16 > (other.usage.prompt_tokens_details.cached_tokens or 0)
    )
    text = str(served.call("GET", "/metrics")[1]["text"])
    (cached,) = [line.split()[1] for line in text.splitlines() if line.startswith("luthier_cached_tokens_total ")]
    assert int(cached) >= 16
