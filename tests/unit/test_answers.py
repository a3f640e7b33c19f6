"""The answers table keeps every answer whole, and an arm's summary is a function of it alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from luthier.config.settings import Settings
from luthier.core.errors import RunFolderError
from luthier.graders.json_fields import Grader
from luthier.verdict.answers import (
    AnswerRow,
    answer_row,
    answer_rows,
    arm_summary,
    graded_by,
    read_answers,
    write_answers,
)

COLUMNS = "id file line messages answer completion finish_reason score grades tokens_in tokens_out seconds confidence"


def rows(count: int = 8) -> list[AnswerRow]:
    made = []
    for place in range(count):
        wanted = json.dumps({"intent": "play", "slots": {"artist": f"A{place}"}})
        completion = wanted if place % 2 else "cut off {"
        grade = Grader().grade("", completion, wanted)
        messages = [
            {"role": "system", "content": "Answer in JSON."},
            {"role": "user", "content": f"play A{place} \u266b"},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "args": {"deep": [1, None]}}]},
        ]
        reason = "stop" if place % 2 else "length"
        made.append(
            AnswerRow(
                f"id{place}",
                "t.jsonl",
                place + 1,
                messages,
                wanted,
                completion,
                reason,
                grade.score,
                grade.marks,
                10,
                5,
                0.5,
            )
        )
    return made


def test_the_table_has_the_promised_columns_and_comes_back_whole(tmp_path: Path) -> None:
    write_answers(tmp_path / "tuned.parquet", rows())
    table = read_answers(tmp_path / "tuned.parquet")
    assert " ".join(table.column_names) == COLUMNS
    assert answer_rows(table) == rows()
    assert table["line"].to_pylist() == list(range(1, 9))
    assert json.loads(table["messages"][0].as_py())[1]["content"] == "play A0 \u266b"
    assert [path.name for path in tmp_path.iterdir()] == ["tuned.parquet"]


def test_the_file_says_who_graded_and_keeps_confidence_where_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "tuned.parquet"
    sure = [replace(row, confidence=place / 10 if place else None) for place, row in enumerate(rows())]
    write_answers(path, sure, "number:tolerance=0.1")
    assert graded_by(path) == "number:tolerance=0.1"
    assert answer_rows(read_answers(path)) == sure
    write_answers(path, rows())
    assert graded_by(path) is None


def test_answers_of_an_earlier_version_are_read_without_confidence(tmp_path: Path) -> None:
    path = tmp_path / "tuned.parquet"
    write_answers(path, rows())
    pq.write_table(pq.read_table(path).drop_columns(["confidence"]).replace_schema_metadata(None), path)
    assert graded_by(path) is None
    assert answer_rows(read_answers(path)) == rows()


def test_a_row_survives_the_journal_of_an_unfinished_arm() -> None:
    assert [answer_row(json.loads(json.dumps(row.as_entry()))) for row in rows()] == rows()


def test_the_question_is_the_last_thing_the_user_said() -> None:
    assert rows()[3].question == "play A3 \u266b"
    assert AnswerRow("i", "f", 1, [], "a", "b", "stop", 0.0).question == ""


def test_absent_answers_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="luthier resume"):
        read_answers(tmp_path / "tuned.parquet")


def test_an_arm_is_summed_up_from_its_rows() -> None:
    summary = arm_summary(rows(), Grader(), np.arange(8), Settings())
    assert summary["score"] == 0.5
    assert summary["metrics"]["json_valid"] == 0.5
    assert summary["metrics"]["cut_off"] == 0.5
    assert (summary["tokens_in"], summary["tokens_out"], summary["seconds"]) == (80, 40, 4.0)
    low, high = summary["interval"]
    assert 0 < low < 0.5 < high < 1
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_clusters_widen_the_interval_of_an_arm() -> None:
    alone = arm_summary(rows(80), Grader(), np.arange(80), Settings())["interval"]
    halves = np.array([place % 2 * 4 + place % 8 // 2 for place in range(80)])
    together = arm_summary(rows(80), Grader(), halves, Settings())["interval"]
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])
