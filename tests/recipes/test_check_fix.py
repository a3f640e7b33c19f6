"""`luthier check --fix`: what is mended, what waits for a person, and that no row is lost on the way."""

import json
from collections import Counter
from pathlib import Path

import pytest
from command import luthier, refused

from luthier.core.types import JsonObject

OWN_CHECK = '''
"""Answers that shout are said softly; questions that beg are doubted. It sees no other."""

from dataclasses import replace

from luthier.core.types import Conversation, Finding, Message, Repair, Text


class Check:
    dimension = "consistent"
    effect = "a model that is shouted at learns to shout"
    blind = "scripts without capitals"

    def __init__(self, context):
        self.loud, self.begging = [], []

    def see(self, position, row):
        asked, answered = (turn.content for turn in row.content.messages[-2:])
        if "!" in answered:
            self.loud.append(row.id)
        if "please" in asked:
            turns = row.content.messages
            labelled = replace(row.content, messages=(*turns[:-1], replace(turns[-1], content="begging")))
            self.begging.append((row.id, labelled))
        return ()

    def end(self):
        if self.loud:
            safe = tuple(Repair(id, "fix", True) for id in self.loud)
            yield Finding("shouting", "loud", "warning", 1.0, tuple(self.loud), "SOME shout.", "Be calm.", safe)
        for id, content in self.begging:
            unsafe = (Repair(id, "fix", False, content),)
            yield Finding("shouting", "begging", "warning", 0.5, (id,), "One begs.", "Doubt it.", unsafe)

    def repair(self, content):
        if isinstance(content, Text):
            return Text(content.text.replace("!", "."))
        turns = tuple(replace(turn, content=turn.content.replace("!", ".")) for turn in content.messages)
        return replace(content, messages=turns)
'''
SKIP = ["--set"]
OTHERS = ("duplicates", "broken", "shouting")


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a working folder with a check whose repairs it knows."""
    from luthier.core.parts import names

    shipped = names("luthier.data.checks")
    SKIP[1:] = [f"check.skip=[{','.join(name for name in shipped if name not in OTHERS)}]"]
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "luthier_parts" / "checks"
    folder.mkdir(parents=True)
    (folder / "shouting.py").write_text(OWN_CHECK)


def record(number: int, label: str = "calm", text: str = "") -> JsonObject:
    return {
        "text": text or f"question {number * 7919} of {number * 31}?",
        "label": label,
        "extra": {"n": [number, None]},
    }


ROWS = [
    record(0), record(1, "LOUD!"), record(2, text="could you please say?"), record(3), record(1, "LOUD!"),
    record(5, ""), record(6, "WHAT!", "and please?"),
]  # fmt: skip


def write(path: Path, records: list[JsonObject]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in records), encoding="utf-8")
    return path


def lines(path: Path) -> list[JsonObject]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def fixed(tmp_path: Path, *arguments: object) -> tuple[list[JsonObject], list[JsonObject], list[JsonObject], str]:
    data = write(tmp_path / "rows.jsonl", ROWS)
    called = luthier("check", data, "--fix", tmp_path / "clean.jsonl", *SKIP, *arguments)
    assert called.code in (0, 3), called.err
    out = (tmp_path / name for name in ("clean.jsonl", "clean.set-aside.jsonl", "decisions.jsonl"))
    clean, aside, decisions = map(lines, out)
    return clean, aside, decisions, called.err


def test_safe_repairs_are_done_others_proposed_and_keys_stay_as_they_are(tmp_path: Path):
    clean, aside, decisions, said = fixed(tmp_path)
    assert clean == [record(0), record(1, "LOUD."), ROWS[2], record(3), record(6, "WHAT.", "and please?")]
    assert [(row["rule"], row["line"], row["row"]) for row in aside] == [("empty-answer", 6, ROWS[5])]
    assert [(one["line"], one["action"], one["proposal"] and one["proposal"]["action"]) for one in decisions] == [
        (2, "fix", None), (3, "keep", "fix"), (5, "drop", None), (6, "set aside", None), (7, "fix", "fix"),
    ]  # fmt: skip
    assert decisions[0]["before"] == ROWS[1] and decisions[0]["after"] == record(1, "LOUD.")
    assert decisions[1]["after"] is None and decisions[1]["proposal"]["after"] == ROWS[2] | {"label": "begging"}
    assert "7 rows: 3 written as they are, 2 fixed, 1 dropped, 1 set aside" in said


def test_lines_that_cannot_be_parsed_are_set_aside_with_their_text(tmp_path: Path):
    data = tmp_path / "rows.jsonl"
    good = [json.dumps(record(number)) for number in range(3)]
    data.write_bytes(
        "\n".join([good[0], '{"text": "a', "", good[1], "\u00e9"]).encode() + b"\n\xff\n" + good[2].encode()
    )
    called = luthier("check", data, "--fix", tmp_path / "clean.jsonl", *SKIP)
    assert called.code in (0, 3), called.err
    aside = lines(tmp_path / "clean.set-aside.jsonl")
    assert [(row["line"], row["row"], row["text"]) for row in aside] == [
        (2, None, '{"text": "a'), (5, None, "\u00e9"), (6, None, None),
    ]  # fmt: skip
    assert lines(tmp_path / "clean.jsonl") == [record(number) for number in range(3)]


def test_every_row_ends_in_exactly_one_place(tmp_path: Path):
    clean, aside, decisions, _ = fixed(tmp_path)
    dropped = sum(one["action"] == "drop" for one in decisions)
    assert len(clean) + len(aside) + dropped == len(ROWS)


def test_a_cleaned_file_needs_no_more_cleaning(tmp_path: Path):
    clean, *_ = fixed(tmp_path)
    again = tmp_path / "again" / "clean.jsonl"
    assert luthier("check", tmp_path / "clean.jsonl", "--fix", again, *SKIP).code in (0, 3)
    assert lines(again) == clean
    assert {one["action"] for one in lines(again.with_name("decisions.jsonl"))} == {"keep"}


def test_an_edited_file_of_decisions_is_done_to_the_letter(tmp_path: Path):
    _, _, decisions, _ = fixed(tmp_path)
    decisions[0] |= {"action": "keep"}
    decisions[1] |= decisions[1]["proposal"]
    decisions[2] |= {"action": "set aside"}
    decisions[3] |= {"action": "fix", "after": record(5, "mended by hand")}
    decisions[4] |= {"action": "drop"}
    edited = write(tmp_path / "edited.jsonl", decisions)
    called = luthier(
        "check", tmp_path / "rows.jsonl", "--fix", tmp_path / "final.jsonl", "--decisions", edited, "--json"
    )
    assert called.code == 0, called.err
    assert json.loads(called.out) == {"read": 7, "as_is": 3, "fixed": 2, "dropped": 1, "set_aside": 1}
    assert lines(tmp_path / "final.jsonl") == [
        record(0), ROWS[1], ROWS[2] | {"label": "begging"}, record(3), record(5, "mended by hand"),
    ]  # fmt: skip
    assert [(row["line"], row["because"]) for row in lines(tmp_path / "final.set-aside.jsonl")] == [
        (5, ["exact", "loud"])
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"action": "fxi"}, ("unknown action 'fxi'", "Did you mean 'fix'?", "edited.jsonl:2")),
        ({"id": "0123456789abcdef"}, ("no row of the data has the id '0123456789abcdef'", "edited.jsonl:2")),
        ({"before": {"text": "other", "label": "x"}}, ("rows.jsonl:3 no longer reads", "edited.jsonl:2")),
        ({"action": "fix", "after": None}, ("needs the row", "edited.jsonl:2")),
        ({"action": "fix", "after": {"text": "a", "label": ""}}, ("cannot be read as a row", "edited.jsonl:2")),
        ({"action": "fix", "after": "text"}, ("'after' must be the row as a JSON object", "edited.jsonl:2")),
        ({"id": 7}, ("no row id", "edited.jsonl:2")),
    ],
)
def test_a_decision_that_does_not_fit_is_refused_by_its_line(
    tmp_path: Path, change: JsonObject, words: tuple[str, ...]
):
    _, _, decisions, _ = fixed(tmp_path)
    decisions[1] |= change
    edited = write(tmp_path / "edited.jsonl", decisions)
    arguments = ("check", tmp_path / "rows.jsonl", "--fix", tmp_path / "final.jsonl", "--decisions", edited)
    refused(luthier(*arguments), *words)
    assert not (tmp_path / "final.jsonl").exists() and not list(tmp_path.glob(".*"))


def test_a_line_that_is_no_decision_and_a_row_decided_twice_are_refused(tmp_path: Path):
    _, _, decisions, _ = fixed(tmp_path)
    edited = write(tmp_path / "edited.jsonl", [*decisions, decisions[0]])
    arguments = ("check", tmp_path / "rows.jsonl", "--fix", tmp_path / "final.jsonl", "--decisions", edited)
    refused(luthier(*arguments), "edited.jsonl:6", "decided a second time, first in line 1")
    edited.write_text('{"id": "x", \n')
    refused(luthier(*arguments), "edited.jsonl:1", "invalid-json")


def test_decisions_of_somebody_are_not_written_over(tmp_path: Path):
    _, _, decisions, _ = fixed(tmp_path)
    fixed(tmp_path)  # the same again is no harm
    decisions[0]["action"] = "keep"
    write(tmp_path / "decisions.jsonl", decisions)
    called = luthier("check", tmp_path / "rows.jsonl", "--fix", tmp_path / "clean.jsonl", *SKIP)
    refused(called, "decisions.jsonl is there already", "--decisions")
    assert lines(tmp_path / "decisions.jsonl") == decisions


def test_what_is_read_is_never_written_over(tmp_path: Path):
    data = write(tmp_path / "rows.jsonl", ROWS)
    refused(luthier("check", data, "--fix", data, *SKIP), "is or lies in what is read")
    refused(luthier("check", data, "--fix", tmp_path / "clean.csv", *SKIP), "ends in .jsonl")
    refused(luthier("check", tmp_path, "--fix", tmp_path / "clean.jsonl", *SKIP), "is or lies in what is read")
    assert lines(data) == ROWS
    called = luthier("check", data, "--decisions", data)
    assert called.code == 2 and "--fix" in called.err


def test_the_test_file_is_looked_at_but_not_written(tmp_path: Path):
    test = write(tmp_path / "test.jsonl", [record(90, "AH!"), record(91)])
    clean, _, decisions, _ = fixed(tmp_path, "--test", test)
    assert len(clean) == 5 and all(one["file"] == "rows.jsonl" for one in decisions)


def test_a_csv_becomes_json_lines_with_its_columns(tmp_path: Path):
    data = tmp_path / "rows.csv"
    data.write_text("text,label\nhow?,LOUD!\nwhat?,calm\n", encoding="utf-8")
    out = tmp_path / "clean.jsonl"
    called = luthier("check", data, "--input", "text", "--output", "label", "--fix", out, *SKIP)
    assert called.code in (0, 3), called.err
    assert lines(out) == [{"text": "how?", "label": "LOUD."}, {"text": "what?", "label": "calm"}]


def test_rows_of_several_columns_and_of_turns_keep_their_shape(tmp_path: Path):
    several = write(tmp_path / "several.jsonl", [{"q": f"question {n}", "a": "so!", "b": n} for n in range(3)])
    out = tmp_path / "several" / "clean.jsonl"
    assert luthier("check", several, "--input", "q", "--output", "a,b", "--fix", out, *SKIP).code in (0, 3)
    assert lines(out) == [{"q": f"question {n}", "a": "so.", "b": n} for n in range(3)]
    turns = [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello!"}]
    chats = write(tmp_path / "chats.jsonl", [{"messages": turns, "id": 7}])
    out = tmp_path / "chats" / "clean.jsonl"
    assert luthier("check", chats, "--fix", out, *SKIP).code in (0, 3)
    assert Counter(turn["content"] for turn in lines(out)[0]["messages"]) == Counter(["Hi.", "Hello."])
    assert lines(out)[0]["id"] == 7


def test_a_report_of_decisions_that_are_applied_is_refused_rather_than_left_out(tmp_path: Path):
    fixed(tmp_path)
    called = luthier(
        "check", tmp_path / "rows.jsonl", "--fix", tmp_path / "final.jsonl",
        "--decisions", tmp_path / "decisions.jsonl", "--report", tmp_path / "page.html",
    )  # fmt: skip
    assert called.code == 2 and "no check looks where decisions are applied" in " ".join(called.err.split())
    assert not (tmp_path / "final.jsonl").exists() and not (tmp_path / "page.html").exists()
