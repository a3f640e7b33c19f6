"""Requests a second and time to the first token: `luthier serve` against its own bare engine, and against `transformers serve`.

    python bench/serve.py [--model starter|135m|DIR] [--clients 16] [--requests 64] [--tokens 32] [--rounds 5] [--engine-threads N] [--peer PYTHON] [--llama-cpp PYTHON] [--json FILE]

Prompts share their first 150 words and have 20 of their own, others in every round. Every candidate answers the same
prompts greedily, with as many clients at a time, each in a process of its own, and a first round warms up. The bare
engine and the server take turns, and `overhead` is the median over the rounds of what a round of the server takes more than one of
its engine: HTTP, queue and control plane. The peers come behind them, so that they cannot compute beside them: `--peer` is a Python
whose environment has `transformers[serving]`, `--llama-cpp` one with `llama-cpp-python[server]` and `gguf` (its server answers one
request at a time). `135m` has random weights in the shape of a model of 135M, with the starter's smaller vocabulary.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from http.client import HTTPConnection
from importlib.resources import files
from pathlib import Path

import torch
import yaml
from serve_peers import peers
from timing import machine
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from luthier.core.hardware import usable_cores
from luthier.core.threads import child_environment
from luthier.generate.client import Ask, Ended, EngineClient, EngineSpec
from luthier.generate.request import Delta, Sampling

SHARED, OWN = 150, 20
WORDS = ("parcel", "invoice", "window", "river", "letter", "garden", "engine", "winter", "bridge", "market")
SHAPE_135M = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "head_dim": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measured:
    """One candidate's figures."""

    requests_per_second: float
    tokens_per_second: float
    first_token_median_ms: float
    first_token_p95_ms: float
    whole_median_ms: float


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: seconds to the first piece, seconds to the end, tokens."""

    first: float
    whole: float
    tokens: int


def prompts(count: int, round: int) -> list[str]:
    """Texts that begin alike, in all rounds, and of which no two are the same."""
    head = " ".join(WORDS[number * 7 % len(WORDS)] for number in range(SHARED))
    rng = random.Random(round)
    return [f"{head} {' '.join(rng.choice(WORDS) for _ in range(OWN))} {round} {row}" for row in range(count)]


def measured(ask: Callable[[str], Answered], texts: list[str], clients: int) -> Measured:
    """Have every text answered, `clients` at a time."""
    with ThreadPoolExecutor(clients) as pool:
        start = time.perf_counter()
        answers = list(pool.map(ask, texts))
        seconds = time.perf_counter() - start
    firsts = sorted(answer.first for answer in answers)
    return Measured(
        len(texts) / seconds, sum(answer.tokens for answer in answers) / seconds, 1000 * statistics.median(firsts),
        1000 * firsts[int(0.95 * (len(firsts) - 1))], 1000 * statistics.median(answer.whole for answer in answers),
    )  # fmt: skip


def in_turns(
    candidates: Mapping[str, Callable[[str], Answered]], options: argparse.Namespace
) -> dict[str, list[Measured]]:
    """Measure candidates round by round; the first round warms up and does not count."""
    found: dict[str, list[Measured]] = {name: [] for name in candidates}
    for round in range(options.rounds + 1):
        texts = prompts(options.requests if round else options.clients, round)
        for name, ask in candidates.items():
            one = measured(ask, texts, options.clients)
            if round:
                found[name].append(one)
                print(f"{name}: {one.requests_per_second:.2f} requests/s", file=sys.stderr)
    return found


def median_of(rounds: Sequence[Measured]) -> Measured:
    """Return the median of each figure."""
    return Measured(*(statistics.median(values) for values in zip(*(astuple(one) for one in rounds), strict=True)))


def ratio(above: Sequence[Measured], below: Sequence[Measured]) -> float:
    """Return the median over the rounds of one candidate's requests a second divided by another's."""
    pairs = zip(above, below, strict=True)
    return statistics.median(one.requests_per_second / other.requests_per_second for one, other in pairs)


def by_engine(client: EngineClient, tokens: int) -> Callable[[str], Answered]:
    """Ask the engine without a server."""

    def ask(text: str) -> Answered:
        start, first, count = time.perf_counter(), 0.0, 0
        sampling = Sampling(max_tokens=tokens, temperature=0)
        for event in client.ask(Ask([{"role": "user", "content": text}], sampling=sampling)):
            if isinstance(event, Delta):
                first = first or time.perf_counter() - start
            elif isinstance(event, Ended):
                count = len(event.finished.ids)
        whole = time.perf_counter() - start
        return Answered(first or whole, whole, count)

    return ask


def by_http(port: int, key: str, model: str, tokens: int) -> Callable[[str], Answered]:
    """Ask a server in OpenAI's form, each time over a connection of its own."""

    def ask(text: str) -> Answered:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
        }
        start, first, count, pieces = time.perf_counter(), 0.0, 0, 0
        connection = HTTPConnection("127.0.0.1", port, timeout=600)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(body | {"stream_options": {"include_usage": True}}), headers
        )
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {answer.read()[:300]!r}")
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if any((choice.get("delta") or {}).get("content") for choice in event.get("choices") or []):
                first = first or time.perf_counter() - start
                pieces += 1
            count = (event.get("usage") or {}).get("completion_tokens") or count
        connection.close()
        whole = time.perf_counter() - start
        return Answered(first or whole, whole, count or pieces)  # llama-cpp-python's streams name no usage

    return ask


@contextmanager
def luthier_server(served: Mapping[str, object]) -> Iterator[tuple[int, str, int]]:
    """Serve with Luthier and these settings; yield the port, the key and the process."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "serve.yaml"
        settings.write_text(yaml.safe_dump(dict(served)))
        command = [
            sys.executable,
            "-m",
            "luthier.cli.main",
            "serve",
            "--port",
            "0",
            "--data",
            f"{folder}/data",
            "--config",
            str(settings),
        ]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=child_environment(1)
        )
        assert process.stdout is not None
        key = process.stdout.readline().strip().removeprefix("API key: ")
        port = int(process.stdout.readline().strip().rpartition(":")[2].partition("/")[0])
        try:
            yield port, key, process.pid
        finally:
            process.terminate()
            process.wait(60)


def folder_of(model: str, made: Path) -> str:
    """Return the folder of a model; random weights are written into `made`."""
    starter = Path(str(files("luthier.starter") / "model"))
    if model == "starter":
        return str(starter)
    if model != "135m":
        return os.path.abspath(model)
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(starter, **SHAPE_135M)
    AutoModelForCausalLM.from_config(config).save_pretrained(made)
    AutoTokenizer.from_pretrained(starter).save_pretrained(made)
    shutil.copy(starter / "generation_config.json", made)
    return str(made)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--engine-threads",
        type=int,
        default=usable_cores(),
        help="Luthier's; the server's own default leaves a trainer its share.",
    )
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--llama-cpp", metavar="PYTHON")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        result = compared(folder_of(options.model, Path(made)), options)
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def compared(folder: str, options: argparse.Namespace) -> dict[str, object]:
    """Measure every candidate over one model."""
    clients = options.clients
    client = EngineClient(EngineSpec(folder, threads=options.engine_threads, max_rows=clients, max_waiting=4 * clients))
    settings = {
        "answers": clients, "waiting": 4 * clients, "engine_threads": options.engine_threads, "models": {"measured": folder},
    }  # fmt: skip
    with luthier_server(settings) as (port, key, _):
        served = by_http(port, key, "measured", options.tokens)
        found = in_turns({"engine": by_engine(client, options.tokens), "luthier serve": served}, options)
    client.close()
    result: dict[str, object] = {
        "machine": machine(), "settings": {name: getattr(options, name) for name in ("clients", "requests", "tokens", "rounds", "engine_threads")},
        "overhead": ratio(found["engine"], found["luthier serve"]) - 1,
    }  # fmt: skip
    for name, serving in peers(options, folder).items():
        with serving as (port, model):
            found |= in_turns({name: by_http(port, "none", model, options.tokens)}, options)
        result[f"times {name}"] = ratio(found["luthier serve"], found[name])
    return result | {"figures": {name: asdict(median_of(rounds)) for name, rounds in found.items()}}


if __name__ == "__main__":
    main()
