"""What was planted in files of text is found, line by line, and clean data stays clean.

The lists below are the claim: for each file, which planted kinds which findings answer for. What is
not claimed stands in NOT_CLAIMED with its reason, and a test holds the two lists against the manifest.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from luthier.config.settings import CheckSettings, DataSettings
from luthier.core.types import Finding, JsonObject, Rejected, Row
from luthier.data.checking import Context
from luthier.data.examine import examine, make_checks
from luthier.data.odd_characters import LASTING
from luthier.data.passages import passages
from luthier.data.private_spans import KINDS
from luthier.data.read import read
from luthier.data.redact import redactor

DATA = Path(__file__).parents[2].parent / "shared" / "data"
DIRTY = DATA / "dirty"
PAGE = Path(__file__).parents[2] / "docs" / "experiments" / "planted-errors.md"
needs_dirty = pytest.mark.skipif(not DIRTY.is_dir(), reason="../shared/data/dirty is not here")
CHECKS = ("broken", "characters", "private", "boilerplate", "weights")


class Claim(NamedTuple):
    """The findings that answer for planted kinds of one file."""

    file: str
    check: str
    found: str
    planted: str


CLAIMS = [
    Claim(
        "invalid_json.jsonl",
        "broken",
        "invalid-json",
        "missing_colon bad_escape trailing_comma unquoted_key truncated raw_tab_in_string python_literals "
        "raw_newline_in_string two_objects_on_line comment_line single_quotes missing_brace",
    ),
    Claim("invalid_json.jsonl", "broken", "not-an-object", "string_not_object array_not_object number_not_object"),
    Claim("invalid_json.jsonl", "broken", "nan-value", "nan_value"),
    Claim("invalid_json.jsonl", "broken", "duplicate-key", "duplicate_key"),
    Claim("missing_fields.jsonl", "broken", "empty-answer", "empty_output whitespace_output"),
    Claim("missing_fields.jsonl", "broken", "missing-answer", "missing_output misspelled_key"),
    Claim("missing_fields.jsonl", "broken", "null-content", "null_output"),
    Claim("missing_fields.jsonl", "broken", "empty-row", "empty_object"),
    Claim("missing_fields.jsonl", "broken", "empty-prompt", "empty_input_and_instruction"),
    Claim("missing_fields.jsonl", "broken", "missing-prompt", "missing_input_and_instruction"),
    Claim("missing_fields.jsonl", "broken", "placeholder-answer", "placeholder_output"),
    Claim(
        "broken_roles.jsonl",
        "broken",
        "roles-out-of-order",
        "only_assistant starts_with_assistant swapped_roles two_assistant_turns system_in_middle",
    ),
    Claim("broken_roles.jsonl", "broken", "unknown-role", "unknown_role"),
    Claim("broken_roles.jsonl", "broken", "missing-role", "role_missing"),
    Claim("broken_roles.jsonl", "broken", "no-messages", "no_messages"),
    Claim("broken_roles.jsonl", "broken", "null-content", "null_content"),
    Claim("broken_roles.jsonl", "broken", "empty-answer", "empty_content"),
    Claim("broken_roles.jsonl", "broken", "ends-without-answer", "ends_with_user"),
    Claim("broken_roles.jsonl", "broken", "turns-in-a-row", "two_user_turns"),
    Claim("csv_broken.csv", "broken", "repeated-header", "repeated_header"),
    Claim("csv_broken.csv", "broken", "wrong-columns", "missing_column extra_column semicolon_line tab_line"),
    Claim("csv_broken.csv", "broken", "stray-quote", "unescaped_quote"),
    Claim("csv_broken.csv", "broken", "unclosed-quote", "unclosed_quote"),
    Claim("csv_broken.csv", "broken", "conflict-marks", "trailing_garbage"),
    Claim("encoding_mixed.jsonl", "broken", "bad-encoding", "latin1_line"),
    Claim("encoding_mojibake.jsonl", "characters", "mojibake", "mojibake"),
    Claim("encoding_mojibake.jsonl", "characters", "replacement-character", "replacement_character"),
    Claim("control_chars.jsonl", "broken", "invalid-json", "raw_control_byte"),
    Claim("control_chars.jsonl", "broken", "lone-surrogate", "lone_surrogate"),
    Claim(
        "control_chars.jsonl",
        "characters",
        "control-character",
        "delete backspace c1_control nul escape_sequence vertical_tab bell",
    ),
    Claim(
        "control_chars.jsonl",
        "characters",
        "invisible-character",
        "zero_width_joiner zero_width_space byte_order_mark_inside soft_hyphen",
    ),
    Claim("control_chars.jsonl", "characters", "hidden-text", "tag_character"),
    Claim("control_chars.jsonl", "characters", "private-use-character", "private_use"),
    Claim("control_chars.jsonl", "characters", "direction-character", "right_to_left_override"),
    Claim("control_chars.jsonl", "characters", "line-separator", "line_separator"),
    Claim("label_spelling.jsonl", "characters", "outer-space", "label_trailing_space label_space_for_underscore"),
    Claim("long_rows.jsonl", "boilerplate", "repeats-itself", "long_repetition"),
    Claim("pii.jsonl", "private", "email", "email"),
    Claim("pii.jsonl", "private", "email-in-words", "email_obfuscated"),
    Claim("pii.jsonl", "private", "phone", "phone"),
    Claim("pii.jsonl", "private", "card", "credit_card"),
    Claim("pii.jsonl", "private", "iban", "iban"),
    Claim("pii.jsonl", "private", "api-key", "api_key"),
    Claim("pii.jsonl", "private", "social-security-number", "us_ssn"),
    Claim("pii.jsonl", "private", "ip-address", "ip_address"),
    Claim("everything.jsonl", "broken", "invalid-json", "invalid_json"),
    Claim("everything.jsonl", "broken", "empty-answer", "empty_output whitespace_output"),
    Claim("everything.jsonl", "broken", "missing-answer", "missing_output"),
    Claim("everything.jsonl", "characters", "control-character", "control_nul"),
    Claim("everything.jsonl", "characters", "invisible-character", "control_zero_width_space"),
    Claim("everything.jsonl", "characters", "direction-character", "control_right_to_left_override"),
    Claim("everything.jsonl", "private", "email", "pii_email"),
    Claim("everything.jsonl", "private", "phone", "pii_phone"),
    Claim("everything.jsonl", "private", "card", "pii_credit_card"),
    Claim("everything.jsonl", "private", "iban", "pii_iban"),
    Claim("everything.jsonl", "private", "api-key", "pii_api_key"),
]
# A label of one word in which a space stands for an underscore that is not there: only its outer space shows.
MAY_MISS = {("label_spelling.jsonl", "label_space_for_underscore")}
NOT_CLAIMED = {
    ("invalid_json.jsonl", "blank_line"): "a blank line is no row and does no harm",
    ("csv_broken.csv", "blank_line"): "a blank line is no row and does no harm",
    ("missing_fields.jsonl", "number_output"): "a number is read as its text; how answers are written is `format`'s",
    ("missing_fields.jsonl", "list_output"): "a list is read as its JSON; how answers are written is `format`'s",
    ("missing_fields.jsonl", "object_output"): "an object is read as its JSON; how answers are written is `format`'s",
    ("broken_roles.jsonl", "role_case"): "`User` is read as `user`: nothing is lost",
    ("broken_roles.jsonl", "content_is_list"): "a list of text parts is legal and read as its text",
    ("long_rows.jsonl", "long_text"): "a long row is right as it is; `lengths` tells whether it fits the model",
    ("long_rows.jsonl", "long_unbroken_word"): "a long word may be data; `lengths` tells whether it fits the model",
    ("everything.jsonl", "long_text"): "a long row is right as it is; `lengths` tells whether it fits the model",
}
# Kinds of files and issues that are other checks' business: copies, contradictions, label spellings, formats.
ELSEWHERE = ("duplicate_", "contradictory_", "label_", "leak_", "non_ascii_row", "cp1252_only_character")
ELSEWHERE_FILES = {"mixed_formats.jsonl"}
COLUMNS = {"encoding_mojibake.jsonl": {"input": "text", "output": ("intent",)}}
COLUMNS["encoding_mixed.jsonl"] = COLUMNS["encoding_mojibake.jsonl"]


class Looked(NamedTuple):
    """A file as the checks saw it."""

    rows: list[Row]
    line_of: dict[str, int]
    findings: dict[str, list[Finding]]


def rows_of(path: Path, **settings: object) -> tuple[list[Row], list[Rejected]]:
    both = list(read(str(path), DataSettings(path=str(path), **settings), lambda words: None))  # type: ignore[arg-type]
    return [row for row in both if isinstance(row, Row)], [row for row in both if isinstance(row, Rejected)]


def look(rows: list[Row], rejected: list[Rejected], names: tuple[str, ...] = CHECKS) -> dict[str, list[Finding]]:
    context = Context(CheckSettings(), len(rows), lambda: iter(rows), rows.__getitem__, tuple(rejected))
    return examine(make_checks(names, context), rows)


@cache
def looked_at(file: str) -> Looked:
    rows, rejected = rows_of(DIRTY / file, **COLUMNS.get(file, {}))
    return Looked(rows, {row.id: row.line for row in (*rows, *rejected)}, look(rows, rejected))


@cache
def manifest() -> dict[str, JsonObject]:
    return json.loads((DIRTY / "MANIFEST.json").read_text(encoding="utf-8"))["files"]


def planted(file: str) -> Iterator[tuple[str, int]]:
    """Yield kind and line of what was planted; a row cut in two by a line end is two broken lines."""
    for issue in manifest()[file].get("issues", ()):  # type: ignore[union-attr]
        for line in range(issue.get("line", 0), issue.get("to_line", issue.get("line", 0)) + 1):  # type: ignore[index,union-attr]
            yield issue["kind"], line  # type: ignore[index,misc]


def found_lines(claim: Claim) -> set[int]:
    looked = looked_at(claim.file)
    kinds = claim.found.split()
    findings = [finding for finding in looked.findings[claim.check] if finding.kind in kinds]
    return {looked.line_of[row] for finding in findings for row in finding.rows}


@needs_dirty
@pytest.mark.parametrize(
    ("claim", "kind"),
    [(claim, kind) for claim in CLAIMS for kind in claim.planted.split()],
    ids=lambda value: value.file if isinstance(value, Claim) else value,
)
def test_a_planted_kind_is_found(claim: Claim, kind: str) -> None:
    lines = {line for name, line in planted(claim.file) if name == kind}
    assert lines
    if (claim.file, kind) not in MAY_MISS:
        assert len(lines & found_lines(claim)) >= 0.95 * len(lines)


@needs_dirty
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.file}-{claim.found}")
def test_a_finding_is_something_that_was_planted(claim: Claim) -> None:
    right = {line for name, line in planted(claim.file) if name in claim.planted.split()}
    found = found_lines(claim)
    assert len(found & right) >= 0.9 * len(found) > 0


@needs_dirty
def test_every_planted_kind_is_claimed_or_excused() -> None:
    claimed = {(claim.file, kind) for claim in CLAIMS for kind in claim.planted.split()}
    assert not claimed & NOT_CLAIMED.keys()
    kinds = {(file, kind) for file in manifest() if file not in ELSEWHERE_FILES for kind, _ in planted(file)}
    rest = {(file, kind) for file, kind in kinds - claimed - NOT_CLAIMED.keys() if not kind.startswith(ELSEWHERE)}
    assert rest == set()


def test_the_page_tells_what_is_claimed_and_what_is_not() -> None:
    page = PAGE.read_text(encoding="utf-8")
    claimed = [
        f"| `{claim.file}` | {', '.join(claim.planted.split())} | `{claim.check}` | {claim.found} |" for claim in CLAIMS
    ]
    excused = [f"| `{file}` | {kind} | {why} |" for (file, kind), why in NOT_CLAIMED.items()]
    missing = [line for line in (*claimed, *excused) if line not in page]
    assert not missing, "put these into docs/experiments/planted-errors.md:\n" + "\n".join(missing)


@needs_dirty
@pytest.mark.parametrize("check", CHECKS)
def test_files_in_which_nothing_is_wrong_have_no_finding(check: str) -> None:
    for file in ("csv_multiline.csv", "csv_semicolon.csv", "wrapped.json", "crlf_no_final_newline.jsonl"):
        assert [one for one in looked_at(file).findings[check] if one.severity != "info"] == []


@needs_dirty
def test_private_values_are_covered_from_end_to_end_and_decoys_are_left() -> None:
    rows = {row.line: row for row in looked_at("pii.jsonl").rows}
    redact = redactor(0).redacted
    for issue in manifest()["pii.jsonl"]["issues"]:  # type: ignore[union-attr]
        text = "\n".join(passage.text for passage in passages(rows[issue["line"]].content))  # type: ignore[index]
        assert issue["value"] in text  # type: ignore[index,operator]
        assert issue["value"] not in redact(text, KINDS), issue  # type: ignore[index,operator]
    for decoy in manifest()["pii.jsonl"]["decoys"]:  # type: ignore[union-attr]
        text = "\n".join(passage.text for passage in passages(rows[decoy["line"]].content))  # type: ignore[index]
        assert decoy["value"] in redact(text, KINDS), decoy  # type: ignore[index,operator]


@needs_dirty
def test_mojibake_is_repaired_to_the_right_text() -> None:
    looked = looked_at("encoding_mojibake.jsonl")
    rows = {row.line: row for row in looked.rows}
    check = make_checks(["characters"], Context(CheckSettings(), 0, lambda: iter(()), looked.rows.__getitem__))
    for issue in manifest()["encoding_mojibake.jsonl"]["issues"]:  # type: ignore[union-attr]
        if issue["kind"] == "mojibake":  # type: ignore[index]
            mended = check["characters"].repair(rows[issue["line"]].content)  # type: ignore[attr-defined,index]
            assert issue["right_text"] in [passage.text for passage in passages(mended)]  # type: ignore[index]
    for line in manifest()["encoding_mojibake.jsonl"]["right_lines_with_non_ascii"]:  # type: ignore[union-attr]
        assert check["characters"].repair(rows[line].content) == rows[line].content  # type: ignore[attr-defined,index]


@needs_dirty
@pytest.mark.parametrize("file", ["control_chars.jsonl", "encoding_mojibake.jsonl", "pii.jsonl", "everything.jsonl"])
def test_a_safe_repair_cures_its_finding_and_a_proposal_does_too(file: str) -> None:
    looked = looked_at(file)
    rows = {row.id: row for row in looked.rows}
    for name in ("characters", "private"):
        check = make_checks([name], Context(CheckSettings(), 0, lambda: iter(()), looked.rows.__getitem__))[name]
        for finding in looked.findings[name]:
            assert len(finding.repairs) == len(finding.rows) or finding.kind in LASTING
            for repair in finding.repairs:
                row = rows[repair.row]
                content = repair.content or check.repair(row.content)  # type: ignore[attr-defined]
                left = look([replace(row, content=content)], [], (name,))[name]
                assert finding.kind not in {one.kind for one in left}


@needs_dirty
@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ("snips", {"input": "text", "output": ("intent", "slots")}),
        ("banking77", {}),
        ("clinc150", {}),
        ("gsm8k", {}),
    ],
)
def test_clean_data_stays_clean(task: str, columns: dict[str, object]) -> None:
    rows, rejected = rows_of(DATA / "tasks" / task / "train.jsonl", **columns)
    found = look(rows, rejected)
    for check in CHECKS:
        flagged = {row for one in found[check] if one.severity != "info" for row in one.rows}
        assert len(flagged) < 0.01 * len(rows), (check, [one.detail for one in found[check]])
