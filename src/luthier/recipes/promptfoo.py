"""The sealed test and its grader as a promptfoo suite, so that any model behind an address is judged as the arms were.

promptfooconfig.yaml   one test case a row
rows.jsonl             what is asked and what is wanted
luthier_rows.py        gives promptfoo the messages of a row, and grades its answer with the run's own grader
"""

import json
from pathlib import Path

import yaml

from luthier.config.load import load
from luthier.core.errors import DataError, RunFolderError, SettingsError
from luthier.core.rundir import open_run, write_atomically
from luthier.core.types import JsonObject, JsonValue
from luthier.data.store import read_stored
from luthier.graders.making.spec import Learner, grader_named
from luthier.verdict.questions import Question, questions

_CONFIG, _ROWS, _SCRIPT = "promptfooconfig.yaml", "rows.jsonl", "luthier_rows.py"
_TEMPLATE_MARKS = ("{{", "{%", "{#")
_PROGRAM = '''"""Messages and grades for promptfoo, from the rows beside this file; needs Luthier in promptfoo's Python."""

import json
from pathlib import Path

from luthier.graders.making.spec import grader_named

ROWS = [json.loads(line) for line in (Path(__file__).parent / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
GRADER = {grader!r}


def messages(context):
    """Return what the model is asked."""
    return ROWS[context["vars"]["row"]]["messages"]


def get_assert(output, context):
    """Grade an answer as the run did; it passes with the score of `config.pass`."""
    row = ROWS[context["vars"]["row"]]
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    score = grader_named(GRADER).grader.grade(row["question"], text, row["answer"]).score
    least = (context.get("config") or {{}}).get("pass", 1.0)
    return {{"pass": score >= least, "score": score, "reason": f"{{GRADER}} {{score:.3f}}"}}
'''


def export_promptfoo(path: Path, to: Path | None) -> Path:
    """Write the suite of a judged run to the folder `to`, which must be absent or empty, and return it."""
    run = open_run(path)
    settings = load([run.config])
    if settings.compare.grader is None or not run.part("test").exists():
        raise RunFolderError(
            f"{path} has not been compared yet, so it has no grader; go on with: luthier resume {path}"
        )
    if to is None:
        raise SettingsError("name the folder to write with --to.")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise RunFolderError(f"{to} is not an empty folder; choose another --to.")
    if isinstance(grader_named(settings.compare.grader).grader, Learner):
        raise SettingsError(
            f"{settings.compare.grader} learns from the training answers, which a suite of test rows does not hold."
        )
    asked = questions(list(read_stored(run.part("test"))))
    if not asked:
        raise RunFolderError(
            f"{path} has no test part: its rows were cross-fitted (compare.folds), and the model has seen all of them."
        )
    decoding: JsonObject = {
        "apiBaseUrl": "http://127.0.0.1:8000/v1", "temperature": settings.generate.temperature, "max_tokens": settings.generate.max_new_tokens,
    }  # fmt: skip
    config = _config(
        asked, {"id": f"openai:chat:{run.path.name}", "config": decoding}, f"The sealed test of {run.path.name}"
    )
    lines = [json.dumps(_row(question), ensure_ascii=False) + "\n" for question in asked]
    to.mkdir(parents=True, exist_ok=True)
    write_atomically(to / _ROWS, "".join(lines).encode())
    write_atomically(to / _SCRIPT, _PROGRAM.format(grader=settings.compare.grader).encode())
    write_atomically(to / _CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
    return to


def _config(asked: list[Question], provider: JsonObject, description: str) -> JsonObject:
    tests: list[JsonValue] = [
        {"description": f"{question.row.file}:{question.row.line}", "vars": {"row": place}}
        for place, question in enumerate(asked)
    ]
    grade: JsonObject = {"type": "python", "value": f"file://{_SCRIPT}:get_assert", "config": {"pass": 1.0}}
    return {
        "description": description, "prompts": [f"file://{_SCRIPT}:messages"], "providers": [provider],
        "defaultTest": {"assert": [grade]}, "tests": tests,
    }  # fmt: skip


def _row(question: Question) -> JsonObject:
    messages: list[JsonValue] = [
        {**message.as_dict(), "content": _literal(message.content, question)} for message in question.messages
    ]
    return {"messages": messages, "question": question.text, "answer": question.wanted}


def _literal(text: str, question: Question) -> str:
    """Return a text that comes out of promptfoo's templates as it is."""
    if not any(mark in text for mark in _TEMPLATE_MARKS):
        return text
    if "endraw" in text:
        raise DataError(
            f"{question.row.file}:{question.row.line} holds a template's `endraw`, which promptfoo cannot be given as plain text."
        )
    return "{% raw %}" + text + "{% endraw %}"
