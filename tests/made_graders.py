"""Every grader, made with the settings that it must have, and an answer that it holds to be right.

A grader that is not named here takes no settings and holds "the answer" to be right.
"""

import json
from functools import cache
from pathlib import Path

from chat_server import ChatServer, judging

from luthier.core.types import Grader, JsonObject
from luthier.graders.making.spec import made

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
RULES = "rules:\n  - name: answers\n    must_say: answer\n"
RIGHT = {
    "code_runs": "assert 1 + 1 == 2",
    "json_exact": '{"a": "x", "b": 2}',
    "json_fields": '{"a": "x", "b": 2}',
    "json_schema": '{"a": "x", "b": 2}',
    "json_valid": '{"a": "x", "b": 2}',
    "number": "42",
    "tool_calls": '{"name": "search", "arguments": {"query": "x"}}',
}
WRONG = {"tool_calls": '{"name": "search", "arguments": {}}', "length": "far too many words"}


def grader_made(name: str, folder: Path) -> Grader:
    """Make a grader with the settings that it must have; files are written to `folder`."""
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    (folder / "rules.yaml").write_text(RULES)
    needed: dict[str, JsonObject] = {
        "regex": {"pattern": "answer"}, "json_schema": {"schema": "schema.json"}, "policy": {"rules": "rules.yaml"},
        "judge": {"url": _judge(), "model": "judge"},
    }  # fmt: skip
    return made(name, needed.get(name, {}), folder).grader


def right_answer(name: str) -> str:
    """A wanted text that is its own right answer."""
    return RIGHT.get(name, "the answer")


def wrong_answer(name: str) -> str:
    """An answer that is not the right one."""
    return WRONG.get(name, "zzz 0 qq")


@cache
def _judge() -> str:
    """Return the address of a judge that finds every answer worse than `the answer`."""
    return ChatServer(judging(lambda first, second: "first" if first == "the answer" else "second")).url
