"""docs/run-folder.md is the interface of every later part: what a finished run holds stands there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from small_run import finished, needs_starter

from luthier.core.errors import LuthierError, Stopped, UserError
from luthier.core.journal import entries
from luthier.core.types import JsonValue

pytestmark = needs_starter
PAGE = (Path(__file__).parents[2] / "docs" / "run-folder.md").read_text(encoding="utf-8")
WORDS = set(re.findall(r"[\w.-]+", PAGE))


def documented(file: str) -> str:
    """Return a file's name as the page writes it."""
    name = re.sub(r"^(checkpoints/\d+|package)/", "", file)
    return re.sub(r"^answers/(classical|zero_shot|tuned)\.", "answers/<arm>.", name)


def test_every_file_of_a_finished_run_is_documented():
    path = finished().path
    files = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    assert len(files) > 30
    assert [file for file in files if f"`{documented(file)}`" not in PAGE] == []


def test_a_finished_run_leaves_no_half_made_file():
    names = [file.name for file in finished().path.rglob("*")]
    assert [name for name in names if ".partial" in name or (name.startswith(".") and name != ".lock")] == []


def test_every_column_of_every_table_is_documented():
    tables = [*finished().path.rglob("*.parquet")]
    assert tables
    columns = {column for table in tables for column in pq.read_schema(table).names}
    assert columns - WORDS == set()


def test_the_columns_of_ledger_and_answers_are_these():
    path = finished().path
    assert pq.read_schema(path / "ledger.parquet").names == [
        "id", "file", "line", "fate", "rule", "part", "cluster", "tokens", "trained_tokens", "lost_tokens",
    ]  # fmt: skip
    for answers in (path / "answers").glob("*.parquet"):
        assert pq.read_schema(answers).names == [
            "id", "file", "line", "messages", "answer", "completion", "finish_reason", "score", "grades",
            "tokens_in", "tokens_out", "seconds", "confidence",
        ]  # fmt: skip


def test_the_verdict_has_the_promised_shape():
    verdict = finished().verdict
    assert {"run", "data", "grader", "arms", "differences", "plan", "measured", "outcome", "because"} <= set(verdict)
    assert set(verdict["data"]) == {"read", "train", "validation", "test", "dropped", "truncated"}
    assert set(verdict["arms"]) == {"classical", "zero_shot", "tuned"}
    for arm in verdict["arms"].values():
        assert set(arm) == {
            "score", "interval", "effective_rows", "metrics", "tokens_in", "tokens_out", "seconds", "cost",
        }  # fmt: skip
        low, high = arm["interval"]
        assert low <= arm["score"] <= high
    for difference in verdict["differences"]:
        assert set(difference) >= {"a", "b", "value", "interval", "outcome", "p"}
    assert {"seconds", "memory_bytes"} <= set(verdict["plan"])
    assert {"seconds", "memory_bytes", "tokens_per_second"} <= set(verdict["measured"])
    proof = {"head_max_difference", "head_bound", "head_mean_difference", "head_mean_bound"}
    documented_keys = proof | WORDS  # the proof of the loss; "..." on the page
    assert set(keys({**verdict, "arms": {}, "data": {}})) - documented_keys == set()


def test_every_key_of_the_other_files_is_documented():
    path = finished().path
    for name in ("metrics.jsonl", "timings.jsonl"):
        assert {key for line in entries(path / name) for key in line} - WORDS == set(), name
    for name in ("data/split.json", "package/certificate.json"):
        assert set(json.loads((path / name).read_text())) - WORDS == set(), name


def test_losses_are_hex_floats():
    losses = [float.fromhex(line["loss"]) for line in entries(finished().path / "metrics.jsonl")]
    assert len(losses) == 3
    assert losses[-1] < losses[0]


def test_the_exit_codes_are_documented():
    codes = {LuthierError.exit_code, UserError.exit_code, Stopped(2, "").exit_code, Stopped(15, "").exit_code}
    assert codes == {1, 2, 130, 143}
    assert all(re.search(rf"^\| .*\b{code}\b.* \|", PAGE, re.MULTILINE) for code in codes)


def keys(value: JsonValue) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner)
    if isinstance(value, list):
        for inner in value:
            yield from keys(inner)
