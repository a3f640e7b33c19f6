"""The arms that prompt, on a small finished run: they choose on validation, keep off the test, and go on where they stopped.

What an endpoint would know is played by a server on this machine that reads the answer out of its prompt and knows nothing
else, so that an arm is only as good as what it puts there.
"""

import json
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pyarrow.parquet as pq
import pytest
from chat_server import ChatServer
from command import needs_starter
from small_run import SETTINGS, finished

import luthier
from luthier.core.errors import DataError, ProofFailed, ResourceError, RunFailed, SettingsError
from luthier.core.journal import entries
from luthier.core.rundir import RunDir
from luthier.data.store import RowWriter, read_stored
from luthier.recipes.compare import compare
from luthier.recipes.voice import Voice

pytestmark = needs_starter
STREETS = [
    f"{name} {kind}"
    for name in ("Elm", "Oak", "Ash", "Fir", "Yew", "Lime")
    for kind in ("Lane", "Road", "Walk", "Hill", "Mews")
]
CODES = {street: str(1111 + 37 * number) for number, street in enumerate(STREETS)}
BRIEF = {"compare.choosing_calls": 12, "compare.choosing_rows": 3, "compare.train_rows": 0}


@cache
def gates() -> Path:
    """A run over rows whose answers nothing but the knowledge tells."""
    rows = [{"text": f"What is the gate code of {street}?", "code": code} for street, code in CODES.items()]
    settings = {
        **SETTINGS,
        "split.validation_share": 0.2,
        "compare.arms": ["zero_shot"],
        "compare.train_rows": 0,
        "compare.grader": "exact",
    }
    out = Path(mkdtemp(prefix="luthier-gates-")) / "run"
    return luthier.run(rows, input="text", output="code", out=out, settings=settings, quiet=True).path


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """A model that says the code that stands beside the street in its prompt."""

    def answer(body: dict) -> str:
        *before, asked = (message["content"] for message in body["messages"])
        street = re.findall(r"gate code of (\w+ \w+)\?", asked)[-1]
        found = re.search(rf"{street}: (\d+)", "\n".join([*before, asked]))
        return found.group(1) if found else "I do not know"

    running = ChatServer(answer)
    yield running
    running.close()


def copy_of(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to / "run"))


def compared(run: Path, **changes: object) -> dict:
    settings = {f"compare.{key.replace('__', '.')}": value for key, value in changes.items()}
    compare(run, Voice(quiet=True), BRIEF | settings)  # type: ignore[arg-type, operator]
    return json.loads((run / "verdict.json").read_text())


def chosen(run: Path) -> dict:
    return json.loads((run / "choices.json").read_text())


def answers(run: Path, arm: str) -> list[dict]:
    return pq.read_table(run / "answers" / f"{arm}.parquet").to_pylist()


def knowledge(folder: Path) -> str:
    """Pages that tell all codes, of the test's streets too: that is what knowledge is for."""
    folder.mkdir()
    for street, code in CODES.items():
        (folder / f"{street}.md").write_text(f"# Gate of the house\n\n{street}: {code}")
    return str(folder)


def test_arms_choose_on_validation_with_one_budget_and_answer_the_sealed_rows(tmp_path: Path):
    run = copy_of(finished().path, tmp_path)
    (tmp_path / "mine.txt").write_text("Name the queue: billing, shipping or account.")
    verdict = compared(
        run,
        arms=["zero_shot", "prompt", "few_shot", "retrieval", "tuned_retrieval"],
        prompts=[str(tmp_path / "mine.txt")],
    )
    choices = chosen(run)
    assert set(choices) == {"prompt", "few_shot", "retrieval", "tuned_retrieval"}
    for arm, choice in choices.items():
        names = [one["name"] for one in choice["candidates"]]
        assert choice["chosen"] in names and choice["budget"] == 12 and choice["calls"] <= 12, arm
        assert choice["calls"] == sum(one["rows"] for one in choice["candidates"])
    example = choices["few_shot"]["example"]
    assert [turn["role"] for turn in example[-2:]] == ["assistant", "user"]
    tokens = {
        arm: [row["tokens_in"] for row in sorted(answers(run, arm), key=lambda row: row["id"])]
        for arm in verdict["arms"]
    }
    for arm in choices:
        assert all(longer > plain for longer, plain in zip(tokens[arm], tokens["zero_shot"])), arm
    said = {
        arm: [row["completion"] for row in answers(run, arm)]
        for arm in ("zero_shot", "prompt", "few_shot", "retrieval")
    }
    assert all(said[arm] != said["zero_shot"] for arm in said if arm != "zero_shot"), "what is added reaches the model"
    told = {entry["arm"]: entry["note"] for entry in entries(run / "events.jsonl") if entry["event"] == "arm_described"}
    assert choices["few_shot"]["chosen"] in told["few_shot"]
    proven = [entry for entry in entries(run / "events.jsonl") if entry["event"] == "pool_proven"]
    assert proven[0]["pool_rows"] == verdict["data"]["train"] and proven[0]["texts"] == ["mine.txt"]
    assert list((run / "answers").glob("*.jsonl")) == []
    assert "mine.txt" in (run / "config.yaml").read_text()


def test_answers_stay_while_the_prompts_do_and_are_made_anew_when_a_file_changes(tmp_path: Path):
    run, file = copy_of(finished().path, tmp_path), tmp_path / "mine.txt"
    file.write_text("Name the queue.")
    compared(run, arms=["zero_shot", "prompt"], prompts=[str(file)], choosing_rows=0)
    first = (run / "answers" / "prompt.parquet").stat().st_mtime_ns
    tokens = [row["tokens_in"] for row in answers(run, "prompt")]
    compare(run, Voice(quiet=True))
    assert (run / "answers" / "prompt.parquet").stat().st_mtime_ns == first
    file.write_text("Name the queue, and name nothing else but the queue.")
    compare(run, Voice(quiet=True))
    assert all(new > old for new, old in zip([row["tokens_in"] for row in answers(run, "prompt")], tokens))


def test_a_test_row_planted_in_the_pool_stops_everything_and_is_named(tmp_path: Path):
    run = RunDir(copy_of(finished().path, tmp_path))
    planted = next(iter(read_stored(run.part("test"))))
    rows = [*read_stored(run.part("train")), planted]
    with RowWriter(run.part("train")) as writer:
        for row in rows:
            writer.write(row)
    with pytest.raises(ProofFailed, match=rf"leak: .*{planted.id}.*Nothing was asked"):
        compared(run.path, arms=["few_shot"])
    assert not run.arm_answers("few_shot").exists() and not run.choices.exists()


def test_a_file_of_knowledge_with_the_test_in_it_stops_everything(tmp_path: Path):
    run = copy_of(gates(), tmp_path)
    (tmp_path / "dump.txt").write_text(
        "\n".join(f"What is the gate code of {street}? {code}" for street, code in CODES.items())
    )
    with pytest.raises(DataError, match=r"leak: .*dump.txt holds the question and the answer"):
        compared(run, arms=["retrieval"], knowledge=str(tmp_path / "dump.txt"))


def test_where_the_answers_stand_in_the_knowledge_retrieval_is_chosen_and_wins(tmp_path: Path, server: ChatServer):
    run = copy_of(gates(), tmp_path)
    verdict = compared(
        run, arms=["zero_shot", "endpoint"], knowledge=knowledge(tmp_path / "pages"), endpoint__url=server.url, endpoint__model="reader",
        choosing_calls=80,
    )  # fmt: skip
    tried = {one["name"]: one["score"] for one in chosen(run)["endpoint"]["candidates"]}
    assert chosen(run)["endpoint"]["chosen"] == "3 passages from the knowledge"
    assert tried["as the rows stand"] == 0 and tried["3 passages from the knowledge"] == 1
    assert verdict["arms"]["endpoint"]["score"] == 1 > verdict["arms"]["zero_shot"]["score"]
    assert verdict["arms"]["endpoint"]["tokens_in"] == 11 * verdict["data"]["test"]


def test_without_the_knowledge_the_same_endpoint_knows_nothing(tmp_path: Path, server: ChatServer):
    run = copy_of(gates(), tmp_path)
    verdict = compared(run, arms=["endpoint"], endpoint__url=server.url, endpoint__model="reader")
    assert verdict["arms"]["endpoint"]["score"] == 0


def test_an_endpoint_that_breaks_down_loses_no_answer(tmp_path: Path, server: ChatServer):
    run = copy_of(gates(), tmp_path)
    given = {
        "arms": ["endpoint"], "endpoint__url": server.url, "endpoint__model": "reader", "endpoint__at_once": 1,
        "choosing_rows": 0,
    }  # fmt: skip
    real = server.answer
    server.answer = lambda body: real(body) if len(server.requests) <= 3 else b"out of order"
    with pytest.raises(RunFailed, match="out of order"):
        compared(run, **given)
    assert len(list(entries(RunDir(run).arm_progress("endpoint")))) == 3
    server.answer = real
    compare(run, Voice(quiet=True))
    assert len(server.requests) == 4 + len(answers(run, "endpoint")) - 3


def test_what_does_not_fit_into_the_context_is_left_out_until_the_answer_has_room(tmp_path: Path):
    run = copy_of(gates(), tmp_path)
    (tmp_path / "long.md").write_text(
        "\n\n".join(f"The gate code of {street} is kept. " + "filler word " * 60 for street in STREETS)
    )
    compared(
        run,
        arms=["zero_shot", "retrieval"],
        knowledge=str(tmp_path / "long.md"),
        added_tokens=100_000,
        choosing_calls=40,
    )
    (eight,) = [one for one in chosen(run)["retrieval"]["candidates"] if one["name"] == "8 passages from the knowledge"]
    assert eight["rows"] > 0
    assert max(row["tokens_in"] for row in answers(run, "retrieval")) <= 2048 - SETTINGS["generate.max_new_tokens"]  # type: ignore[operator]


def test_a_budget_that_cannot_reach_is_refused_before_anything_is_sent(tmp_path: Path, server: ChatServer):
    run = copy_of(gates(), tmp_path)
    with pytest.raises(ResourceError, match=r"answers are wanted .*2 of 2 requests"):
        compared(run, arms=["endpoint"], endpoint__url=server.url, endpoint__model="reader", endpoint__requests=2)
    assert server.requests == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": ["endpoint"]}, "needs an address and a model"),
        (
            {"arms": ["zero_shot"], "knowledge": "."},
            "compare.knowledge is used by retrieval and tuned_retrieval and endpoint",
        ),
        ({"arms": ["no_such"]}, "there is no arm 'no_such'"),
    ],
)
def test_arms_that_cannot_be_asked_are_refused(tmp_path: Path, changes: dict, words: str):
    with pytest.raises(SettingsError, match=words):
        compared(copy_of(gates(), tmp_path), **changes)


def test_only_the_comparison_can_still_change(tmp_path: Path):
    with pytest.raises(SettingsError, match="only settings under compare"):
        compare(copy_of(gates(), tmp_path), Voice(quiet=True), {}, ["train.lr=1"])
    with pytest.raises(DataError, match=r"there is no file or folder none\.txt"):
        compared(copy_of(gates(), tmp_path / "other"), prompts=["none.txt"])
