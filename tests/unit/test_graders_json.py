"""Graders of JSON: whole values, schemas that fetch nothing, tool calls as models write them."""

import json
from pathlib import Path

import pytest

from luthier.core.errors import SettingsError
from luthier.core.types import Grade
from luthier.graders import json_exact, json_fields, json_schema, json_valid, tool_calls
from luthier.graders.json_fields import InvalidJson, parsed

TICKET = {
    "type": "object",
    "properties": {"kind": {"enum": ["delay", "refund"]}, "order": {"type": "string", "pattern": "^[A-Z]{2}$"}},
    "required": ["kind"],
    "additionalProperties": False,
}


def schema_grader(folder: Path, schema: object) -> json_schema.Grader:
    (folder / "schema.json").write_text(json.dumps(schema))
    return json_schema.Grader(schema=folder / "schema.json")


@pytest.mark.parametrize(
    ("completion", "fault"),
    [
        ('{"kind": "delay"}', None),
        ('{"kind": "delay", "order": "AB"}', None),
        ('{"order": "AB"}', "$: required 'kind'"),
        ('{"kind": "other"}', "$.kind: enum ['delay', 'refund']"),
        ('{"kind": "delay", "order": "ab"}', "$.order: pattern ^[A-Z]{2}$"),
        ('{"kind": "delay", "x": 1}', "$: additionalProperties False"),
        ("[]", "$: type object"),
    ],
)
def test_a_schema_says_where_an_answer_fails(tmp_path: Path, completion: str, fault: str | None) -> None:
    grade = schema_grader(tmp_path, TICKET).grade("", completion, "")
    assert grade.marks == {"valid": True, "fault": fault}
    assert grade.score == float(fault is None)


def test_faults_are_counted_without_what_was_found(tmp_path: Path) -> None:
    grader = schema_grader(tmp_path, {"type": "array", "items": {"type": "integer"}})
    grades = [grader.grade("", text, "") for text in ('["a"]', '[1, "b"]', "[1]", "oops")]
    assert grader.metrics(grades) == {"json_valid": 0.75, "conforms": 0.25, "faults": {"$[]: type integer": 2}}
    assert not grader.needs_answer


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "https://example.org/other.json"}, "points outside the schema, and nothing is fetched"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "points outside the schema"),
        ({"items": {"$ref": "other.json#/$defs/a"}}, "points outside the schema"),
        ({"$ref": "#/$defs/none"}, "points to nothing in the schema"),
        ({"type": "objekt"}, "is no JSON schema"),
        ({"pattern": "("}, "is not a 'regex'"),
        ([], "expected an object"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(tmp_path: Path, schema: object, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        schema_grader(tmp_path, schema)
    assert words in str(caught.value)


def test_a_schema_may_refer_to_itself(tmp_path: Path) -> None:
    schema = {
        "$id": "https://example.org/tree",
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {"properties": {"next": {"$ref": "https://example.org/tree#/$defs/node"}}, "required": ["v"]},
            "odd/name~": {"$anchor": "odd"},
            "uses": {"$ref": "#/$defs/odd~1name~0"},
            "uses_anchor": {"$ref": "#odd"},
        },
    }
    grader = schema_grader(tmp_path, schema)
    assert grader.grade("", '{"v": 1, "next": {"v": 2}}', "").score == 1
    assert grader.grade("", '{"v": 1, "next": {}}', "").marks["fault"] == "$.next: required 'v'"


def test_a_long_list_is_checked_for_unique_items_in_time(tmp_path: Path) -> None:
    grader = schema_grader(tmp_path, {"uniqueItems": True})
    mixed = [[n] if n % 2 else str(n) for n in range(100_000)]
    assert grader.grade("", json.dumps(mixed), "").score == 1
    assert grader.grade("", json.dumps([*mixed, [1.0]]), "").score == 0
    assert grader.grade("", "[1, true]", "").score == 1


def test_a_pattern_of_a_schema_cannot_hang(tmp_path: Path) -> None:
    grader = schema_grader(tmp_path, {"pattern": "^(a|aa)+$"})
    assert grader.grade("", json.dumps("a" * 5000 + "b"), "").score == 0


def test_json_deeper_than_any_format_is_invalid() -> None:
    assert parsed("[" * 100 + "]" * 100)
    with pytest.raises(InvalidJson, match="more than 100 levels"):
        parsed("[" * 101 + "]" * 101)
    assert parsed(json.dumps([{}] * 500)) == [{}] * 500


@pytest.mark.parametrize(
    ("completion", "kind", "right"),
    [
        ('{"a": 1}', "any", True),
        ("[1]", "object", False),
        ("[1]", "array", True),
        ("```json\n{}\n```", "any", False),
        ("{'a': 1}", "any", False),
        ("NaN", "any", False),
        ("null", "any", True),
        ("", "any", False),
    ],
)
def test_json_is_valid_as_the_standard_has_it(completion: str, kind: str, right: bool) -> None:
    assert json_valid.Grader(kind=kind).grade("", completion, "").score == float(right)  # type: ignore[arg-type]


def test_kinds_of_json_are_counted() -> None:
    grader = json_valid.Grader()
    metrics = grader.metrics([grader.grade("", text, "") for text in ("{}", "[]", "{}", "oops")])
    assert metrics == {"json_valid": 0.75, "kinds": {"array": 1, "invalid": 1, "object": 2}}


@pytest.mark.parametrize(
    ("left", "right", "same", "same_any_order"),
    [
        ('{"a": 1, "b": [1, 2]}', '{"b": [1, 2.0], "a": 1}', True, True),
        ("[1, 2]", "[2, 1]", False, True),
        ('[{"a": [1, 2]}]', '[{"a": [2, 1]}]', False, True),
        ("[1, 1]", "[1]", False, False),
        ('{"a": 1}', '{"a": 1, "b": null}', False, False),
        ('"1"', "1", False, False),
        ("true", "1", False, False),
        ("no json", "no json ", True, True),
        ("{}", "no json", False, False),
        ("no json", "{}", False, False),
    ],
)
def test_whole_values_are_the_same_or_not(left: str, right: str, same: bool, same_any_order: bool) -> None:
    assert json_exact.Grader().grade("", left, right).score == float(same)
    assert json_exact.Grader(any_order=True).grade("", left, right).score == float(same_any_order)


def test_fields_of_another_type_are_counted() -> None:
    pairs = [('{"n": "3", "t": ["x"]}', '{"n": 3, "t": ["x"]}'), ('{"n": 4}', '{"n": 3}'), ('{"n": null}', '{"n": 3}')]
    grader = json_fields.Grader()
    grades = [grader.grade("", completion, wanted) for completion, wanted in pairs]
    assert grader.metrics(grades)["mistyped"] == {"n": 2}
    older = Grade(1.0, {key: value for key, value in grades[1].marks.items() if key != "mistyped"})
    assert grader.metrics([older])["mistyped"] == {}


CALL = '{"name": "book", "arguments": {"from": "Rome", "seats": 2}}'


@pytest.mark.parametrize(
    "completion",
    [
        CALL,
        f"[{CALL}]",
        f"Let me see.\n<tool_call>\n{CALL}\n</tool_call>",
        f"<tool_call>{CALL}",
        f"<|tool_call|>{CALL}<|/tool_call|>",
        f"Let me see.[TOOL_CALLS] [{CALL}]",
        '{"name": "book", "parameters": {"seats": 2.0, "from": "Rome"}}',
        '{"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "book", '
        '"arguments": "{\\"seats\\": 2, \\"from\\": \\"Rome\\"}"}}]}',
        '{"function": "book", "arguments": {"from": "Rome", "seats": 2}}',
    ],
)
def test_a_tool_call_is_read_in_every_dress(completion: str) -> None:
    assert tool_calls.Grader().grade("", completion, CALL).score == 1


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ('{"name": "book", "arguments": {"from": "Rome", "seats": "2"}}', 0),
        ('{"name": "cancel", "arguments": {"from": "Rome", "seats": 2}}', 0),
        (f"{CALL}\n{CALL}", pytest.approx(2 / 3)),
        ("I cannot do that.", 0),
        ("<tool_call>{broken", 0),
        ("", 0),
    ],
)
def test_a_tool_call_is_right_only_with_all_of_it(completion: str, score: float) -> None:
    assert tool_calls.Grader().grade("", completion, CALL).score == score


def test_prose_is_right_where_no_call_is_wanted() -> None:
    grader = tool_calls.Grader()
    assert grader.grade("", "Which day, please?", "On which day?").score == 1
    assert grader.grade("", CALL, "On which day?").score == 0
    assert grader.grade("", "<tool_call>{", "On which day?").score == 0


def test_calls_names_and_arguments_are_counted_apart() -> None:
    grader = tool_calls.Grader()
    half = '{"name": "book", "arguments": {"from": "Rome", "seats": 3}}'
    other = '{"name": "cancel", "arguments": {}}'
    metrics = grader.metrics([grader.grade("", text, CALL) for text in (CALL, half, other, "<tool_call>[")])
    assert metrics["exact"] == 0.25
    assert metrics["readable"] == 0.75
    groups = metrics["groups"]
    assert isinstance(groups, dict)
    assert groups["names"] == {
        "precision": pytest.approx(2 / 3),
        "recall": 0.5,
        "f1": pytest.approx(4 / 7),
        "support": 4,
    }
    assert groups["arguments"] == {"precision": 0.75, "recall": 0.75, "f1": 0.75, "support": 4}
