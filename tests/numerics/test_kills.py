"""Killed by -9 at random instants, stopped by signals, started twice: the run ends in the undisturbed run's bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import luthier.starter
from luthier.core.journal import entries
from luthier.core.rundir import RunDir
from luthier.core.threads import child_environment

KILLS = 25
STEPS = 60
TOKENIZER = Path(luthier.starter.__file__).parent / "model"
WORDS = [
    "red",
    "green",
    "blue",
    "seven",
    "apples",
    "ship",
    "horse",
    "under",
    "over",
    "bright",
    "old",
    "river",
    "stone",
    "lamp",
]


@dataclass(frozen=True)
class Chain:
    """A folder with settings, an undisturbed run and a run that was killed over and over."""

    settings: Path
    whole: RunDir
    torn: RunDir
    kills: list[dict]
    log: str


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Chain:
    folder = tmp_path_factory.mktemp("chain")
    settings = write_settings(folder)
    whole, torn = folder / "whole", folder / "torn"
    program = Path(__file__).with_name("killing.py")
    result = subprocess.run(
        [sys.executable, program, settings, whole, torn, str(KILLS), "1"],
        env=child_environment(1), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    return Chain(settings, RunDir(whole), RunDir(torn), told["kills"], told["log"])


def write_settings(folder: Path) -> Path:
    """Sixty rows that ask for words in reverse, and a tiny model; a checkpoint at every step, so that kills hit the saving too."""
    rng = random.Random(0)
    questions = [rng.choices(WORDS, k=6) for _ in range(60)]
    rows = [
        {"prompt": f"{number}: {' '.join(words)}", "completion": " ".join(reversed(words))}
        for number, words in enumerate(questions)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shape = {
        "tokenizer": str(TOKENIZER), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    }  # fmt: skip
    train = {
        "steps": STEPS, "lr": 3e-3, "batch_tokens": 300, "micro_tokens": 200, "validate_every": 10, "patience": 0,
        "checkpoint_seconds": 1e-6,
    }  # fmt: skip
    tree = {
        "threads": 1,
        "data": {"path": str(folder / "rows.jsonl")},
        "model": {"dtype": "float32", "init": shape},
        "train": train,
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(tree))
    return folder / "settings.yaml"


def assert_same(one: RunDir, other: RunDir) -> None:
    """Weights, averages and journal, byte for byte."""
    assert one.metrics.read_bytes() == other.metrics.read_bytes()
    last = f"{STEPS:06d}/tensors.safetensors"
    assert (one.checkpoints / last).read_bytes() == (other.checkpoints / last).read_bytes()


def test_after_25_kills_the_bytes_are_those_of_the_undisturbed_run(chain):
    assert len(chain.kills) == KILLS
    assert (
        sum(kill["alive"] for kill in chain.kills) >= 0.5 * KILLS
    )  # a busy machine ends some attempts before their kill
    assert_same(chain.whole, chain.torn)
    assert [entry["step"] for entry in entries(chain.torn.metrics)] == list(range(1, STEPS + 1))


def test_after_every_kill_a_verified_checkpoint_is_there_and_no_step_is_lost_or_doubled(chain):
    steps = [kill["step"] or 0 for kill in chain.kills]
    assert steps == sorted(steps)
    assert len({step for step in steps if 0 < step < STEPS}) >= 6
    for kill in chain.kills:
        assert kill["complaints"] == []
        assert kill["whole_journal"]
        assert kill["covered"]


def test_nothing_half_written_is_left(chain):
    assert not list(chain.torn.checkpoints.glob(".*"))


@dataclass(frozen=True)
class Command:
    """A `luthier` command in a process of its own."""

    process: subprocess.Popen

    @staticmethod
    def start(*arguments: str | Path) -> "Command":
        command = [sys.executable, "-m", "luthier.cli.main", *map(str, arguments)]
        return Command(
            subprocess.Popen(
                command, env=child_environment(1), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )

    def wait_for(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not happened():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def signal(self, number: int) -> int:
        os.kill(self.process.pid, number)
        return self.end()[0]

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=120)
        return self.process.returncode, errors


def test_the_commands_survive_signals_kills_and_a_second_process(chain, tmp_path):
    """SIGTERM, SIGINT, kill -9, then two at once: every process is the real command, each going on from the one before."""
    run = RunDir(tmp_path / "run")

    def steps() -> int:
        return sum(1 for _ in entries(run.metrics))

    for number, code, more in (
        (signal.SIGTERM, 143, 5),
        (signal.SIGINT, 130, 8),
        (signal.SIGKILL, -9, 7),
    ):
        begun = steps()
        arguments = ("resume", run.path) if begun else ("train", chain.settings, "--out", run.path)
        command = Command.start(*arguments)
        command.wait_for(lambda begun=begun, more=more: begun + more <= steps() < STEPS)
        assert command.signal(number) == code
        assert steps() < STEPS
    both = [Command.start("resume", run.path) for _ in range(2)]
    ends = [command.end() for command in both]
    assert sorted(code for code, _ in ends) == [0, 2], ends
    loser = [code for code, _ in ends].index(2)
    assert f"in use by process {both[1 - loser].process.pid}" in ends[loser][1]
    assert_same(chain.whole, run)
    assert (run.package / "model.safetensors").exists()
