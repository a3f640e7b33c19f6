"""A long prompt goes into the weights: what is learned, what is filtered, what the test is judged by, and the bill.

The teacher is a server on this machine that knows nothing but what stands in its system prompt.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_server import ChatServer
from command import luthier as command
from command import needs_starter, refused
from small_run import SETTINGS, rows

from luthier.config.load import load
from luthier.config.settings import Settings
from luthier.core.errors import DataError, RunFolderError, SettingsError
from luthier.recipes.distill import Wish, distill
from luthier.recipes.inputs import read_inputs
from luthier.recipes.voice import Voice
from luthier.verdict.distilled import distilled

BRIEF = {
    **SETTINGS,
    "compare.train_rows": 0,
    "compare.latency_rows": 0,
    "compare.arms": ["tuned"],
    "split.validation_share": 0.2,
}
WRONG = "refund"
QUEUES = {row["text"]: row["queue"] for row in rows()}


@pytest.fixture
def teacher() -> Iterator[ChatServer]:
    """Answers by the list in the system prompt, and one word wrongly."""

    def answer(body: dict) -> str:
        first, *_, asked = body["messages"]
        listed = dict(line.split(": ") for line in str(first["content"]).splitlines()[1:])
        subject = _subject(asked["content"])
        return "moon" if subject == WRONG else listed.get(subject, "I know no list")

    running = ChatServer(answer)
    yield running
    running.close()


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    words = {word: row["queue"] for row in rows() for word in [_subject(row["text"])]}
    path = tmp_path / "house.txt"
    path.write_text(
        "Sort tickets by this list of words; answer with the queue alone.\n"
        + "\n".join(f"{w}: {q}" for w, q in words.items())
    )
    return path


def _subject(text: str) -> str:
    return text.split()[1] if text.startswith("My") else text.split()[5]


def written(path: Path, with_answers: bool) -> str:
    path.write_text("".join(json.dumps(row if with_answers else {"text": row["text"]}) + "\n" for row in rows()))
    return str(path)


def settings(server: ChatServer | None = None, **data: object) -> Settings:
    of_endpoint = {} if server is None else {"compare.endpoint.url": server.url, "compare.endpoint.model": "large"}
    return load(flags={**BRIEF, **of_endpoint, **{f"data.{key}": value for key, value in data.items()}})  # type: ignore[arg-type]


def conversations(path: Path) -> list[list[dict]]:
    return [json.loads(line)["messages"] for line in path.read_text().splitlines()]


@needs_starter
def test_right_answers_filter_what_is_learned_and_judge_the_test(tmp_path: Path, prompt: Path, teacher: ChatServer):
    wish = Wish(prompt, written(tmp_path / "asked.jsonl", with_answers=True), terms="our own model")
    out = distill(wish, settings(teacher, input="text", output=["queue"]), tmp_path / "out", Voice(quiet=True))
    found = json.loads((out / "distill.json").read_text())
    learned = conversations(out / "rows" / "train.jsonl") + conversations(out / "rows" / "validation.jsonl")
    assert all(QUEUES[user["content"]] == assistant["content"] for user, assistant in learned)
    assert all(WRONG not in user["content"] for user, _ in learned), "the teacher is wrong there, so it is not learned"
    sealed = conversations(out / "rows" / "test.jsonl")
    assert all(QUEUES[user["content"]] == assistant["content"] for user, assistant in sealed)
    assert found["dropped"] == {
        "accuracy": sum(WRONG in text for text in QUEUES) - sum(WRONG in user["content"] for user, _ in sealed)
    }
    assert found["answers"] == len(QUEUES) - len(sealed), "no test input was asked before there was a model to compare"
    assert (
        found["right_answers"]
        and found["terms"] == "our own model"
        and found["answered_by"] == f"large at {teacher.url}"
    )
    verdict = json.loads((out / "run" / "verdict.json").read_text())
    assert set(verdict["arms"]) == {"tuned", "endpoint"}
    assert (
        found["score_before"]
        == verdict["arms"]["endpoint"]["score"]
        == pytest.approx(1 - sum(WRONG in user["content"] for user, _ in sealed) / len(sealed))
    )
    assert json.loads((out / "run" / "choices.json").read_text())["endpoint"]["chosen"] == "house.txt"

    before = len(teacher.requests)
    again = distill(wish, settings(teacher, input="text", output=["queue"]), out, Voice(quiet=True))
    assert json.loads((again / "distill.json").read_text()) == found and len(teacher.requests) == before
    with pytest.raises(RunFolderError, match="begun with another least"):
        distill(
            Wish(prompt, wish.inputs, least=0.5, terms=wish.terms),
            settings(teacher, input="text", output=["queue"]),
            out,
            Voice(quiet=True),
        )


@needs_starter
def test_without_right_answers_the_command_measures_agreement_and_the_bill_falls(
    tmp_path: Path, prompt: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    short = tmp_path / "short.txt"
    short.write_text("Sort.")
    flags = [f"--set={key}={json.dumps(value)}" for key, value in (BRIEF | {"generate.max_new_tokens": 40}).items()]
    called = command(
        "distill", "--prompt", prompt, "--inputs", written(tmp_path / "asked.jsonl", with_answers=False), "--model", "starter",
        "--short", short, "--grader", "length:most=200", "--least", 0.0, "--out", "out", "--json", *flags,
    )  # fmt: skip
    assert called.code == 0, called.err
    found = json.loads(called.out)
    assert not found["right_answers"] and "against the long prompt's own answers" in found["because"]
    assert found["before"]["tokens_in"] > 2 * found["after"]["tokens_in"]
    assert found["prompt_tokens_saved"] == pytest.approx(1 - found["after"]["tokens_in"] / found["before"]["tokens_in"])
    for part in ("train", "test"):
        for turns in conversations(tmp_path / "out" / "rows" / f"{part}.jsonl"):
            assert [turn["role"] for turn in turns] == ["user", "assistant"], "the long prompt is nowhere in the rows"
    answers = {line["row"]: line for line in map(json.loads, _journal(tmp_path / "out").read_text().splitlines())}
    assert found["answers"] == len(answers) == len(QUEUES)
    assert load([tmp_path / "out" / "run" / "config.yaml"]).data.system == "Sort."
    assert found["score_before"] == 1.0, "decoded greedily, the long prompt agrees with itself"


def _journal(out: Path) -> Path:
    (found,) = (out / "teacher" / "answers").iterdir()
    return found


def test_an_endpoint_without_terms_is_refused_and_named(tmp_path: Path, prompt: Path):
    inputs = written(tmp_path / "asked.jsonl", with_answers=False)
    called = command(
        "distill",
        "--prompt",
        prompt,
        "--inputs",
        inputs,
        "--endpoint",
        "http://localhost:1/v1",
        "--endpoint-model",
        "big",
    )
    refused(called, "the answers of big would train a model", "--terms")


def test_a_grader_that_needs_right_answers_is_refused_where_there_are_none(tmp_path: Path, prompt: Path):
    wish = Wish(prompt, written(tmp_path / "asked.jsonl", with_answers=False), graders=("exact",))
    with pytest.raises(SettingsError, match="exact compares with a right answer"):
        distill(wish, settings(input="text"), tmp_path / "out", Voice(quiet=True))
    assert not (tmp_path / "out").exists()


def test_a_prompt_that_holds_test_inputs_with_their_answers_stops_before_anything_is_asked(tmp_path: Path):
    prompt = tmp_path / "leaky.txt"
    prompt.write_text(
        "Sort tickets, as in these examples.\n" + "\n".join(f"{text} -> {queue}" for text, queue in QUEUES.items())
    )
    wish = Wish(prompt, written(tmp_path / "asked.jsonl", with_answers=True))
    with pytest.raises(DataError, match=r"leaky\.txt"):
        distill(wish, settings(input="text", output=["queue"]), tmp_path / "out", Voice(quiet=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("row", "wanted", "turns"),
    [
        ({"text": "Where?"}, "", ["user"]),
        ({"messages": [{"role": "user", "content": "Where?"}]}, "", ["user"]),
        ({"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]}, "", ["system", "user"]),
        (
            {"messages": [{"role": "user", "content": "y"}, {"role": "assistant", "content": "Here."}]},
            "Here.",
            ["user"],
        ),
    ],
)
def test_inputs_are_read_with_and_without_answers(tmp_path: Path, row: dict, wanted: str, turns: list[str]):
    path = tmp_path / "asked.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (question,) = read_inputs(str(path), settings().data)
    assert question.wanted == wanted and [message.role for message in question.messages] == turns


def test_inputs_that_cannot_be_asked_are_named_by_their_place(tmp_path: Path):
    path = tmp_path / "asked.jsonl"
    path.write_text('{"text": "Where?"}\n{"text": ""}\n')
    with pytest.raises(DataError, match=r"asked\.jsonl:2: no-question"):
        read_inputs(str(path), settings().data)
    path.write_text('{"text": "Where?", "answer": "Here."}\n{"text": "When?", "answer": ""}\n')
    with pytest.raises(DataError, match="1 inputs have a right answer and 1 have none"):
        read_inputs(str(path), settings(output=["answer"]).data)
    with pytest.raises(DataError, match="name the column with the inputs"):
        path.write_text('{"words": "Where?"}\n')
        read_inputs(str(path), settings().data)


@pytest.mark.parametrize(
    ("of_run", "of_difference", "tokens_after", "outcome"),
    [
        ("tuned wins", "better", 10, "distilled"),
        ("prompt is enough", "equivalent", 10, "distilled"),
        ("undecided", "not worse", 10, "distilled"),
        ("prompt is enough", "equivalent", 100, "nothing saved"),
        ("prompt is enough", "worse", 10, "keep the prompt"),
        ("undecided", "undecided", 10, "undecided"),
        ("refused", "better", 10, "refused"),
    ],
)
def test_the_outcome_follows_from_the_difference_and_the_bill(
    of_run: str, of_difference: str, tokens_after: int, outcome: str
):
    bill = {"tokens_out": 3, "latency_p50": None, "requests_per_second": 2.0, "money_per_1000": None}
    verdict = {
        "grader": "accuracy", "outcome": of_run, "because": "leak",
        "arms": {
            "prompt": {"score": 0.9, "cost": {"tokens_in": 100, **bill}}, "tuned": {"score": 0.9, "cost": {"tokens_in": tokens_after, **bill}},
        },
        "differences": [
            {"a": "tuned", "b": "prompt", "value": 0.0, "interval": [-0.1, 0.1], "outcome": of_difference, "more_rows": 1234},
        ],
    }  # fmt: skip
    found = distilled(verdict, "prompt", right_answers=True)  # type: ignore[arg-type]
    assert found["outcome"] == outcome
    assert ("1,234 more" in str(found["next"])) == (outcome == "undecided")
    assert ("90 % fewer" in str(found["because"])) == (tokens_after == 10 and outcome != "refused")
