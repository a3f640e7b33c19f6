"""From a path or a list to rows: detection, columns, every record accounted for."""

import gzip
import json
from pathlib import Path

import pytest

from luthier.config.settings import DataSettings
from luthier.core.errors import DataError, SettingsError
from luthier.core.types import Conversation, JsonObject, Message, Preference, Rejected, Row, Text
from luthier.data.read import ensure_usable, read, read_rows_from_python

DATA = Path(__file__).parents[2].parent / "shared" / "data"
DIRTY = DATA / "dirty"
needs_dirty = pytest.mark.skipif(not DIRTY.is_dir(), reason="../shared/data/dirty is not here")
needs_tasks = pytest.mark.skipif(not (DATA / "tasks").is_dir(), reason="../shared/data/tasks is not here")


def silent(words: str) -> None:
    pass


def rows_of(path: Path, **settings: object) -> tuple[list[Row], list[Rejected]]:
    items = list(read(str(path), DataSettings.model_validate(settings), silent))
    return [item for item in items if isinstance(item, Row)], [item for item in items if isinstance(item, Rejected)]


def write_lines(path: Path, *rows: JsonObject) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def messages(row: Row) -> list[tuple[str, str]]:
    assert isinstance(row.content, Conversation)
    return [(message.role, message.content) for message in row.content.messages]


# The files with defects


@needs_dirty
@pytest.mark.parametrize(
    ("name", "num_rows", "rejected"),
    [
        ("array_in_jsonl.jsonl", 40, {}),
        ("lines_in_json.json", 40, {}),
        ("wrapped.json", 40, {}),
        ("crlf_no_final_newline.jsonl", 40, {}),
        ("old_mac_cr.jsonl", 40, {}),
        ("gzip_in_disguise.jsonl", 40, {}),
        ("truncated.jsonl.gz", 64, {"truncated-file": 1}),
        ("empty.jsonl", 0, {}),
        ("only_blank_lines.jsonl", 0, {}),
        ("csv_multiline.csv", 150, {}),
        ("csv_semicolon.csv", 60, {}),
        ("tabs_in_disguise.csv", 60, {}),
        ("duplicates.jsonl", 310, {}),
        ("label_spelling.jsonl", 300, {}),
        ("contradictory_labels.jsonl", 600, {}),
        ("pii.jsonl", 420, {}),
        ("long_rows.jsonl", 60, {}),
        ("control_chars.jsonl", 195, {"invalid-json": 3, "lone-surrogate": 2}),
        ("everything.jsonl", 949, {"invalid-json": 6, "empty-answer": 12, "missing-answer": 5}),
    ],
)
def test_files_with_defects_give_their_good_rows(name: str, num_rows: int, rejected: dict[str, int]) -> None:
    rows, bad = rows_of(DIRTY / name)
    assert len(rows) == num_rows
    assert {rule: [item.rule for item in bad].count(rule) for rule in {item.rule for item in bad}} == rejected
    assert len({item.id for item in [*rows, *bad]}) == len(rows) + len(bad)


def _bad_lines(name: str, kinds: dict[str, str]) -> dict[int, str]:
    issues = json.loads((DIRTY / "MANIFEST.json").read_text())["files"][name]["issues"]
    return {issue["line"]: kinds[issue["kind"]] for issue in issues if issue["kind"] in kinds}


@needs_dirty
def test_broken_json_lines_are_rejected_by_line_and_rule() -> None:
    others = {
        "string_not_object": "not-an-object",
        "array_not_object": "not-an-object",
        "number_not_object": "not-an-object",
    }
    others |= {"nan_value": "nan-value", "duplicate_key": "duplicate-key"}
    syntax = "missing_colon bad_escape trailing_comma unquoted_key truncated raw_tab_in_string python_literals"
    syntax += " raw_newline_in_string two_objects_on_line comment_line single_quotes missing_brace"
    expected = _bad_lines("invalid_json.jsonl", others | dict.fromkeys(syntax.split(), "invalid-json"))
    rows, bad = rows_of(DIRTY / "invalid_json.jsonl")
    found = {item.line: item.rule for item in bad}
    assert found.pop(191) == "invalid-json"  # the second half of the row with a raw line feed
    assert found == expected
    assert len(rows) == 224


@needs_dirty
def test_missing_fields_are_rejected_by_line_and_rule() -> None:
    kinds = {
        "empty_output": "empty-answer",
        "whitespace_output": "empty-answer",
        "missing_output": "missing-answer",
        "misspelled_key": "missing-answer",
        "null_output": "null-content",
        "empty_object": "empty-row",
        "empty_input_and_instruction": "empty-prompt",
        "missing_input_and_instruction": "missing-prompt",
    }
    rows, bad = rows_of(DIRTY / "missing_fields.jsonl")
    assert {item.line: item.rule for item in bad} == _bad_lines("missing_fields.jsonl", kinds)
    assert len(rows) == 240


@needs_dirty
def test_broken_roles_are_rejected_by_line_and_rule() -> None:
    order = "only_assistant starts_with_assistant swapped_roles two_assistant_turns system_in_middle"
    kinds = dict.fromkeys(order.split(), "roles-out-of-order")
    kinds |= {"unknown_role": "unknown-role", "role_missing": "missing-role", "no_messages": "no-messages"}
    kinds |= {"null_content": "null-content", "empty_content": "empty-answer"}
    rows, bad = rows_of(DIRTY / "broken_roles.jsonl")
    assert {item.line: item.rule for item in bad} == _bad_lines("broken_roles.jsonl", kinds)
    assert len(rows) + len(bad) == 150


@needs_dirty
def test_every_row_of_a_mixed_file_is_read_in_its_own_format() -> None:
    issues = json.loads((DIRTY / "MANIFEST.json").read_text())["files"]["mixed_formats.jsonl"]["issues"]
    rows, bad = rows_of(DIRTY / "mixed_formats.jsonl")
    assert not bad
    by_line = {row.line: row.content for row in rows}
    for issue in issues:
        content = by_line[issue["line"]]
        if issue["kind"] == "plain_text":
            assert isinstance(content, Text)
            continue
        turns = content.prompt + content.chosen if isinstance(content, Preference) else content.messages  # type: ignore[union-attr]
        roles = [turn.role for turn in turns]
        assert (roles.count("user"), roles.count("assistant")) == (issue["user_turns"], issue["assistant_turns"])
        assert turns[-1].content == issue["last_assistant"]


@needs_dirty
def test_encodings_are_found_refused_or_taken_as_declared() -> None:
    columns = {"input": "text", "output": ("intent",)}
    for name in ("encoding_utf16le_bom.jsonl", "encoding_utf16be_nobom.jsonl", "encoding_utf8_bom.jsonl"):
        assert len(rows_of(DIRTY / name, **columns)[0]) == 80
    for name, encoding in (("encoding_latin1.jsonl", "latin-1"), ("encoding_cp1252.jsonl", "cp1252")):
        with pytest.raises(DataError, match=rf"data\.encoding={encoding}"):
            rows_of(DIRTY / name, **columns)
        assert len(rows_of(DIRTY / name, encoding=encoding, **columns)[0]) == 80
    rows, bad = rows_of(DIRTY / "encoding_mixed.jsonl", **columns)
    assert len(rows) == 74
    assert [item.line for item in bad] == [43, 50, 68, 69, 72, 73]
    assert {item.rule for item in bad} == {"bad-encoding"}


@needs_dirty
def test_a_web_page_is_refused() -> None:
    with pytest.raises(DataError, match="web page"):
        rows_of(DIRTY / "error_page.json")


@needs_tasks
@pytest.mark.parametrize(
    ("name", "num_rows", "kind"),
    [
        ("alpaca_en_demo.json", 999, Conversation),
        ("identity.json", 91, Conversation),
        ("glaive_toolcall_en_demo.json", 300, Conversation),
        ("c4_demo.jsonl", 300, Text),
        ("wiki_demo.txt", 16, Text),
    ],
)
def test_common_files_are_read_whole(name: str, num_rows: int, kind: type) -> None:
    rows, bad = rows_of(DATA / "tasks" / "formats" / name)
    assert (len(rows), bad) == (num_rows, [])
    assert {type(row.content) for row in rows} == {kind}


@needs_tasks
def test_tool_calls_keep_their_own_arguments() -> None:
    path = DATA / "tasks" / "formats" / "glaive_toolcall_en_demo.json"
    written = [
        json.loads(turn["value"])
        for row in json.loads(path.read_text())
        for turn in row["conversations"]
        if turn["from"] == "function_call"
    ]
    calls = [
        call["function"]
        for row in rows_of(path)[0]
        if isinstance(row.content, Conversation)
        for message in row.content.messages
        for call in message.tool_calls
    ]
    assert calls == written
    assert len(calls) == 211


# Columns


def test_several_output_columns_become_one_object_in_the_stated_order(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl",
        {"t": "Q", "slots": {"é": []}, "intent": "I"},
        {"t": "Q", "intent": "I"},
        {"t": "Q", "intent": "", "slots": {}},
    )
    rows, bad = rows_of(path, input="t", output=("intent", "slots"))
    assert [messages(row) for row in rows] == [[("user", "Q"), ("assistant", '{"intent": "I", "slots": {"é": []}}')]]
    assert [(item.line, item.rule) for item in bad] == [(2, "missing-answer"), (3, "empty-answer")]


@needs_tasks
def test_intent_and_slots_of_a_real_task_become_one_object() -> None:
    first = json.loads((DATA / "tasks" / "snips" / "test.jsonl").read_text(encoding="utf-8").split("\n")[0])
    row = next(
        read(
            str(DATA / "tasks" / "snips" / "test.jsonl"), DataSettings(input="text", output=("intent", "slots")), silent
        )
    )
    assert isinstance(row, Row)
    assert messages(row)[1][1] == json.dumps({"intent": first["intent"], "slots": first["slots"]}, ensure_ascii=False)


def test_a_pair_is_guessed_only_if_it_is_the_only_one(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "tickets.csv").write_text("Text;Label\nhi;greeting\n")
    rows = list(read(str(tmp_path / "tickets.csv"), DataSettings(), told.append))
    assert [messages(row) for row in rows if isinstance(row, Row)] == [[("user", "hi"), ("assistant", "greeting")]]
    assert told == [
        "tickets.csv: CSV with ';', columns Text, Label -> input=Text, output=Label, the only columns that look like question and answer"
    ]
    two_answers = write_lines(tmp_path / "b.jsonl", {"text": "Q", "intent": "I", "slots": {}})
    with pytest.raises(
        DataError, match=r"no usable column.* There are: text, intent, slots; name them with --input and --output"
    ):
        rows_of(two_answers)
    assert len(rows_of(two_answers, output=("slots",))[0]) == 1


def test_a_column_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"text": "Q", "label": "A"})
    with pytest.raises(DataError, match=r"no column 'txt'. Did you mean 'text'\? There are: text, label"):
        rows_of(path, input="txt", output=("label",))
    with pytest.raises(DataError, match=r"data\.group names the column 'customer'"):
        rows_of(path, group="customer")


def test_groups_and_system_prompts_are_added(tmp_path: Path) -> None:
    chat = {
        "messages": [
            {"role": "system", "content": "own"},
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": "A"},
        ]
    }
    path = write_lines(
        tmp_path / "a.jsonl",
        {"question": "Q", "answer": "A", "customer": 7},
        chat,
        {"prompt": "Q", "chosen": "A", "rejected": "B", "customer": "x"},
    )
    rows, _ = rows_of(path, group="customer", system="house")
    assert [row.group for row in rows] == ["7", None, "x"]
    assert messages(rows[0])[0] == ("system", "house")
    assert messages(rows[1])[0] == ("system", "own")
    assert isinstance(rows[2].content, Preference)
    assert rows[2].content.prompt[0] == Message("system", "house")


# Formats


def test_a_format_can_be_named_and_a_wrong_name_is_answered(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"text": "document", "label": "x"})
    assert isinstance(rows_of(path, format="text")[0][0].content, Text)
    with pytest.raises(SettingsError, match="Did you mean 'alpaca'"):
        rows_of(path, format="alpacca")


def test_the_format_of_a_file_is_that_of_most_rows(tmp_path: Path) -> None:
    rows: list[JsonObject] = [{"text": f"Q{number}", "label": "A"} for number in range(20)]
    path = write_lines(tmp_path / "a.jsonl", {"text": "Q"}, *rows, {"text": "Q"})
    good, bad = rows_of(path)
    assert len(good) == 20
    assert [(item.line, item.rule) for item in bad] == [(1, "missing-answer"), (22, "missing-answer")]


def test_a_row_unlike_any_format_is_not_read_as_something_else(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl", *[{"text": f"document {number}"} for number in range(5)], {"text": "x", "label": "y"}
    )
    good, bad = rows_of(path)
    assert len(good) == 5
    assert [(item.line, item.rule) for item in bad] == [(6, "unknown-format")]


# Places and ids


def test_ids_depend_on_the_file_and_the_record_and_lines_are_physical(tmp_path: Path) -> None:
    text = '\n\n{"question": "Q", "answer": "A"}\n\n{"question": "Q", "answer": "A"}\n'
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(text)
    (tmp_path / "c.jsonl").write_text(text + "\n")
    rows, _ = rows_of(tmp_path)
    assert [(row.file, row.line, row.record) for row in rows[:2]] == [("a.jsonl", 3, 1), ("a.jsonl", 5, 2)]
    assert [row.id for row in rows[:2]] == [row.id for row in rows[2:4]]
    assert len({row.id for row in rows}) == 4
    assert all(len(row.id) == 16 for row in rows)


def test_a_folder_leaves_prose_beside_tables_out_and_says_so(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", {"question": "Q", "answer": "A"})
    (tmp_path / "README.md").write_text("About.")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\0")
    told: list[str] = []
    assert len(list(read(str(tmp_path), DataSettings(), told.append))) == 1
    assert [words.split(":")[0] for words in told] == ["README.md", "a.jsonl", "photo.png"]
    assert "left out" in told[0]


def test_files_that_are_alike_are_announced_once(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text(f"Document {number}.")
    told: list[str] = []
    assert len(list(read(str(tmp_path), DataSettings(), told.append))) == 5
    assert len(told) == 1


def test_reading_streams(tmp_path: Path) -> None:
    line = json.dumps({"question": "Q", "answer": "A"}).encode() + b"\n"
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line * 5000) + b"damage")
    items = read(str(tmp_path / "a.jsonl.gz"), DataSettings(), silent)
    assert isinstance(next(items), Row)
    rest = list(items)
    assert len(rest) == 5000
    assert isinstance(rest[-1], Rejected)
    assert rest[-1].rule == "damaged-file"


def test_a_hub_data_set_without_the_extra_says_what_to_install() -> None:
    try:
        import datasets  # noqa: F401
    except ImportError:
        with pytest.raises(DataError, match=r"pip install 'luthier\[datasets\]'"):
            list(read("hub:some/set", DataSettings(), silent))
    else:
        pytest.skip("the datasets extra is installed")


# Python


def test_rows_from_python_are_read_like_those_of_a_file() -> None:
    rows: list[JsonObject] = [
        {"question": "Q", "answer": "A"},
        {"question": "Q"},
        {"question": "Q2", "answer": float("nan")},
    ]
    rows += [["not a dict"], {"question": "\ud83d", "answer": "A"}, {"question": {1}, "answer": "A"}]  # type: ignore[list-item]
    items = list(read_rows_from_python(rows, DataSettings(), silent))
    assert isinstance(items[0], Row)
    assert (items[0].file, items[0].line, items[0].record) == ("<python>", 1, 1)
    assert [item.rule for item in items if isinstance(item, Rejected)] == [
        "missing-answer",
        "not-json",
        "not-an-object",
        "lone-surrogate",
        "not-json",
    ]
    longer = list(read_rows_from_python([*rows, {"question": "Q3", "answer": "A"}], DataSettings(), silent))
    assert [item.id for item in longer[: len(items)]] == [item.id for item in items]
    changed = list(read_rows_from_python([{"question": "other", "answer": "A"}], DataSettings(), silent))
    assert changed[0].id != items[0].id


# Usability


def test_too_many_bad_rows_are_refused_with_places_and_the_way_through() -> None:
    bad = [Rejected(str(line), "a.jsonl", line, line, "invalid-json", "broken") for line in range(1, 7)]
    ensure_usable(95, {"invalid-json": 5}, DataSettings(), bad)
    with pytest.raises(DataError) as caught:
        ensure_usable(94, {"invalid-json": 5, "empty-answer": 1}, DataSettings(), bad)
    message = str(caught.value)
    assert "6 of 100 rows (6.0%)" in message
    assert "invalid-json: 5, empty-answer: 1" in message
    assert message.count("a.jsonl:") == 3
    share = float(message.rsplit("=", 1)[1])
    ensure_usable(94, {"invalid-json": 6}, DataSettings(max_bad_share=share), bad)


def test_no_rows_and_no_good_rows_are_refused() -> None:
    with pytest.raises(DataError, match=r"empty\.jsonl holds no rows"):
        ensure_usable(0, {}, DataSettings(path="empty.jsonl"))
    with pytest.raises(DataError, match="none of the 3 rows"):
        ensure_usable(0, {"invalid-json": 3}, DataSettings(max_bad_share=1.0))
