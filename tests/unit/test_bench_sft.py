"""The bench against other trainers: it goes on where it was ended, the task is the same for all, and the page is the result."""

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SNIPS = ROOT.parent / "shared" / "data" / "tasks" / "snips" / "train.jsonl"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("sft")


def turn(case, candidate: str, **figures: object) -> dict[str, object]:
    return {"case": case.name, "candidate": candidate, "tokens_a_row": 60.0, "figures": figures}


def test_what_was_measured_is_not_measured_again_and_what_failed_is(bench: ModuleType, tmp_path: Path):
    one, other = bench.on_a_cpu(["llama-135m"], ["lora"], [10, 38])
    names = ["luthier tree", "litgpt"]
    everything = list(bench.turns([one, other], names, 2, []))
    assert everything == 2 * [(one, "luthier tree"), (one, "litgpt"), (other, "luthier tree"), (other, "litgpt")]
    kept = tmp_path / "sft.json"
    report = dict.fromkeys(bench._SAME, "this")
    taken = [turn(one, "luthier tree", rows_per_second=2.0), turn(one, "litgpt", failed="no memory")]
    kept.write_text(json.dumps(report | {"turns": taken}))
    left = list(bench.turns([one, other], names, 1, bench.begun(kept, report)))
    assert left == [(one, "litgpt"), (other, "luthier tree"), (other, "litgpt")]
    with pytest.raises(SystemExit, match="torch this"):
        bench.begun(kept, report | {"torch": "that"})


def test_the_median_of_the_rounds_counts_and_a_failure_shows(bench: ModuleType):
    (case,) = bench.on_a_cpu(["starter"], ["full"], [10])
    taken = [turn(case, "litgpt", rows_per_second=rate) for rate in (1.0, 9.0, 2.0)]
    (found,) = bench.summary([*taken, turn(case, "trl padded", failed="no memory")])
    assert found["candidates"]["litgpt"] == {"rows_per_second": 2.0, "rounds": 3}
    assert found["candidates"]["trl padded"] == {"failed": "no memory"}


def test_each_peer_has_its_own_python_and_a_strange_one_is_refused(bench: ModuleType):
    assert bench.pythons(["trl=/a/python", "litgpt=/b/python"]) == {"trl": "/a/python", "litgpt": "/b/python"}
    for wrong in ("/a/python", "axolotl=/a/python", "trl="):
        with pytest.raises(SystemExit, match="NAME=PYTHON of litgpt, llamafactory, trl"):
            bench.pythons([wrong])


@pytest.mark.skipif(not SNIPS.exists(), reason="needs ../shared/data")
def test_all_candidates_are_given_one_file_of_rows_and_weights(bench: ModuleType, tmp_path: Path):
    given = argparse.Namespace(rows=SNIPS, steps=1, quick=True, device="cpu", peers={"litgpt": "/b/python"})
    (case,) = bench.on_a_cpu(["llama-135m"], ["lora"], [10])
    tasks = bench.Tasks(given, tmp_path)
    ours, peers = tasks.command(case, "luthier tree"), tasks.command(case, "litgpt")
    assert ours[0] == sys.executable and peers[0] == "/b/python" and ours[2] == peers[2]
    task = json.loads(Path(ours[2]).read_text())
    assert (Path(task["folder"]) / "model.safetensors").exists() and len(task["rows"]) == 32
    labels = importlib.import_module("sft_task").labels(task["rows"][0])
    assert labels[:10] == [-100] * 10 and labels[-1] == task["rows"][0]["input_ids"][-1]


def test_the_page_shows_the_result_that_is_kept(bench: ModuleType):
    made = importlib.import_module("sft_page")
    page = made.PAGE.read_text(encoding="utf-8")
    (case,) = bench.on_a_cpu(["starter"], ["lora"], [38])
    figures = {"rows_per_second": 3.0, "tokens_per_second": 90.0, "cpu_seconds_per_row": 0.5, "peak_gib": 1.5, "first_loss": 4.9}  # fmt: skip
    taken = [turn(case, "luthier tree", **figures), turn(case, "litgpt", **figures | {"rows_per_second": 1.5})]
    machine = {"processor": "P", "cores": 2, "torch": "2", "transformers": "5", "steps": 1, "gflops": {"torch.bfloat16": 2, "torch.float32": 1}}  # fmt: skip
    found = machine | {"results": bench.summary(taken)}
    assert "| litgpt | 1.50 | 0.50 | 90 | 0.500 | 1.50 GiB | 4.9000 | 1 |" in made.with_peers(page, found)
    assert made.drawn(found).count("<rect") == 1 + 4
    if made.RESULT.exists():
        kept = json.loads(made.RESULT.read_text(encoding="utf-8"))
        assert page == made.with_peers(page, kept), "bring it up to date with: python bench/sft_page.py"
        assert made.PLOT.read_text(encoding="utf-8") == made.drawn(kept)
