"""The promptfoo suite of a run: its functions ask what the run asked, and grade as the run graded."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command import luthier as command
from command import needs_starter, refused
from small_run import finished

from luthier.core.errors import DataError
from luthier.core.rundir import RunDir
from luthier.core.types import Conversation, Message, Row
from luthier.data.store import RowWriter
from luthier.recipes.promptfoo import export_promptfoo

pytestmark = needs_starter


def called(suite: Path, answers: list[str]) -> list[dict]:
    """Call the functions that the suite names as promptfoo does, in a Python of their own, once a test case."""
    config = yaml.safe_load((suite / "promptfooconfig.yaml").read_text())
    (prompt,), (assertion,) = config["prompts"], config["defaultTest"]["assert"]
    assert prompt == "file://luthier_rows.py:messages" and assertion["value"] == "file://luthier_rows.py:get_assert"
    cases = [{"vars": case["vars"], "config": assertion["config"]} for case in config["tests"]]
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import luthier_rows as rows\n"
        "for case, answer in json.loads(sys.argv[2]):\n"
        "    print(json.dumps({'messages': rows.messages(case), **rows.get_assert(answer, case)}))"
    )
    given = json.dumps(list(zip(cases, answers, strict=True)))
    done = subprocess.run(
        [sys.executable, "-c", code, suite, given], capture_output=True, text=True, check=True, timeout=60
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_suite_asks_and_grades_as_the_run_did(tmp_path: Path):
    run = finished()
    done = command("export", run.path, "--format", "promptfoo", "--to", tmp_path / "suite", "--json")
    assert done.code == 0 and json.loads(done.out) == {"suite": str(tmp_path / "suite")}, done.err
    for arm in ("tuned", "classical"):
        rows = [entry for entry in run.answers.to_pylist() if entry["arm"] == arm]
        found = called(tmp_path / "suite", [row["completion"] for row in rows])
        assert [one["messages"] for one in found] == [json.loads(row["messages"]) for row in rows]
        assert [one["score"] for one in found] == [row["score"] for row in rows]
        assert [one["pass"] for one in found] == [row["score"] == 1 for row in rows]
    config = yaml.safe_load((tmp_path / "suite" / "promptfooconfig.yaml").read_text())
    assert config["providers"][0]["config"]["max_tokens"] == run.settings.generate.max_new_tokens


def test_texts_with_template_marks_come_out_as_they_are(tmp_path: Path):
    copy = RunDir(Path(shutil.copytree(finished().path, tmp_path / "run")))
    asked(copy, "What does {{ name }} stand for?")
    export_promptfoo(copy.path, tmp_path / "suite")
    (row,) = [json.loads(line) for line in (tmp_path / "suite" / "rows.jsonl").read_text().splitlines()]
    assert row["messages"][0]["content"] == "{% raw %}What does {{ name }} stand for?{% endraw %}"
    assert row["question"] == "What does {{ name }} stand for?"
    asked(copy, "{{ a }} {% endraw %}")
    with pytest.raises(DataError, match="t:1 holds a template's `endraw`"):
        export_promptfoo(copy.path, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def asked(run: RunDir, text: str) -> None:
    with RowWriter(run.part("test")) as writer:
        writer.write(Row("a", "t", 1, 1, Conversation((Message("user", text), Message("assistant", "x")))))


def test_a_folder_must_be_named_and_empty(tmp_path: Path):
    refused(command("export", finished().path, "--format", "promptfoo"), "--to")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    refused(
        command("export", finished().path, "--format", "promptfoo", "--to", tmp_path / "full"), "not an empty folder"
    )
