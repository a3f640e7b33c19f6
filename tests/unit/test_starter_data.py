"""The starter's training data: what the skills claim holds, runs repeat, held-out documents stay unseen."""

import json
import os
import random
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest

from luthier.config.load import load
from luthier.core.errors import DataError
from luthier.core.types import JsonObject
from luthier.starter import corpus, generate, recipe
from luthier.starter.commands import spoken
from luthier.starter.source import Source

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
MODEL = Path(recipe.__file__).parent / "model"
SKILLS = {skill.name: skill for skill in generate.skills()}
MESSAGE_KEYS = {"role", "content", "weight"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small corpus of made-up words: dialogues, one compressed file of chapters, one source to leave out."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(11)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(2, 3))) for _ in range(150)]
    people = [word.capitalize() + "us" for word in words[:40]]

    def sentence() -> str:
        body = draw.choices(words, k=draw.randint(4, 12))
        body.insert(2, draw.choice(people))
        text = " ".join(body).capitalize().replace(body[2].lower(), body[2])
        return draw.choice((f"{text}.", f"{text}?", f'"{text}" he said.', f"{text}, {words[3]} 42."))

    dialogues = [
        {"source": draw.choice(("talks", "calls", "calls/reward")), "messages": _turns(draw, sentence)}
        for _ in range(6000)
    ]
    chapters = [
        {
            "source": "novel",
            "title": f"Chapter {n}",
            "text": "\n".join(" ".join(sentence() for _ in range(8)) for _ in range(6)),
        }
        for n in range(900)
    ]
    (folder / "dialogues.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in dialogues), encoding="utf-8")
    with pa.output_stream(str(folder / "books.jsonl.zst"), compression="zstd") as stream:
        stream.write("".join(f"{json.dumps(row)}\n" for row in chapters).encode())
    return folder


def _turns(draw: random.Random, sentence) -> list[dict[str, str]]:
    roles = ("user", "assistant", "user", "assistant")
    return [{"role": role, "content": sentence()} for role in roles[: draw.randint(2, 4)]]


@pytest.fixture(scope="module")
def source(folder: Path) -> Source:
    return Source(row for document in corpus.read(folder) for row in document.rows)


def _rows(name: str, source: Source, count: int = 200, seed: int = 1) -> list[JsonObject]:
    return list(islice(generate.rows(SKILLS[name], source, seed), count))


def _answers(rows: list[JsonObject]) -> list[tuple[str, str]]:
    """Return each answer with everything that stands before it in its row."""
    found = []
    for row in rows:
        before = ""
        for message in row["messages"]:
            if message["role"] == "assistant":
                found.append((before, message["content"]))
            before += f"{message['content']}\n"
    return found


@pytest.mark.parametrize("name", SKILLS)
def test_every_row_is_a_chat_that_ends_in_a_trained_answer(name: str, source: Source) -> None:
    rows = _rows(name, source)
    for row in rows:
        messages = row["messages"]
        assert all(set(message) <= MESSAGE_KEYS and message["content"] for message in messages)
        assert all(message["role"] in ("system", "user", "assistant") for message in messages)
        assert messages[-1]["role"] == "assistant"
        assert all("weight" not in message for message in messages if message["role"] == "assistant")
        posed = {message.get("weight", 1) for message in messages if message["role"] != "assistant"}
        assert len(posed) == 1
    trained = sum("weight" not in row["messages"][0] for row in rows) / len(rows)
    assert trained == 0 if name == "echo" else 0.1 < trained < 0.3


@pytest.mark.parametrize("name", SKILLS)
def test_rows_repeat_by_seed_and_differ_by_seed_and_stream(name: str, source: Source) -> None:
    assert _rows(name, source, 100) == _rows(name, source, 100)
    assert _rows(name, source, 100) != _rows(name, source, 100, seed=2)
    assert _rows(name, source, 100) != list(islice(generate.rows(SKILLS[name], source, 1, "held-out"), 100))


def test_shares_add_up_and_copying_is_the_majority() -> None:
    assert sum(skill.share for skill in SKILLS.values()) == pytest.approx(1)
    copying = ("slots", "quote", "recall", "induction")
    assert sum(SKILLS[name].share for name in copying) > 0.5


def test_slot_values_stand_to_the_letter_in_the_command(source: Source) -> None:
    nested = 0
    for row in _rows("slots", source, 400):
        for asked, answered in zip(row["messages"], row["messages"][1:]):
            if answered["role"] != "assistant":
                continue
            answer = json.loads(answered["content"])
            assert answered["content"] == json.dumps(answer, ensure_ascii=False)
            fields = [value for value in answer.values() if isinstance(value, dict)]
            nested += len(fields)
            values = fields[0].values() if fields else list(answer.values())[1:]
            for value in values:
                assert value in asked["content"]
    assert nested > 200


def test_the_label_of_a_single_question_is_named_in_the_prompt(source: Source) -> None:
    single = [
        row for row in _rows("labels", source, 800) if sum(m["role"] == "assistant" for m in row["messages"]) == 1
    ]
    assert len(single) > 200
    for before, answer in _answers(single):
        label = next(iter(json.loads(answer).values())) if answer.startswith("{") else answer
        assert label in before, (before, answer)


@pytest.mark.parametrize("name", ["quote", "recall"])
def test_quotations_stand_to_the_letter_in_the_prompt(name: str, source: Source) -> None:
    assert SKILLS[name].quotes_corpus
    for before, answer in _answers(_rows(name, source, 400)):
        quoted = next(iter(json.loads(answer).values())) if answer.startswith('{"') else answer
        parts = [quoted] if name == "recall" or quoted in before else quoted.split(", ")  # a list of names
        assert parts == ["none"] or all(part in before for part in parts), (before, answer)


def test_the_text_in_quotes_is_what_the_quotes_hold(source: Source) -> None:
    asked = [row for row in _rows("quote", source, 1500) if "stands in quotes" in json.dumps(row)]
    assert asked
    for before, answer in _answers(asked):
        quoted = next(iter(json.loads(answer).values())) if answer.startswith('{"') else answer
        assert f'"{quoted}"' in before


def test_lookups_and_facts_are_answered_from_the_prompt(source: Source) -> None:
    for name in ("passage", "induction"):
        for before, answer in _answers(_rows(name, source)):
            assert all(part in before for part in re.split(r"[,|;/-]? |\n", answer)), (before, answer)


def test_forms_asked_as_json_are_json(source: Source) -> None:
    for before, answer in _answers(_rows("format", source, 300)):
        if "JSON" in before:
            assert json.loads(answer)


def test_spoken_names_of_keys() -> None:
    assert [spoken(key) for key in ("first_name", "firstName", "FirstName", "first-name", "FIRST_NAME")] == [
        "first name"
    ] * 5


def test_pieces_keep_every_word_in_order_and_are_of_the_stated_size() -> None:
    draw = random.Random(2)
    paragraphs = ["Word " * draw.randint(5, 150) + "end." for _ in range(80)] + ["A long one. " * 900, "x" * 7000]
    text = "\n".join(paragraphs)
    pieces = corpus.pieces(text)
    assert re.sub(r"\s", "", "".join(pieces)) == re.sub(r"\s", "", text)
    assert max(map(len, pieces)) <= 3600
    assert sorted(map(len, pieces))[len(pieces) // 2] >= 1500


def test_answers_of_models_are_left_out_and_compressed_files_are_read(folder: Path) -> None:
    documents = list(corpus.read(folder))
    assert {document.source for document in documents} == {"talks", "calls", "novel"}
    assert {document.family for document in documents} == {"dialogues", "books"}
    held_out = sum(document.held_out for document in documents) / len(documents)
    assert 0.003 < held_out < 0.02


def test_a_folder_without_a_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        list(corpus.read(tmp_path))
    with pytest.raises(DataError, match="at least 10"):
        Source([{"text": "Too little."}])


def test_two_runs_write_the_same_bytes_and_nothing_held_out_is_trained_on(folder: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "first", tmp_path / "second"]
    command = [sys.executable, "-m", "luthier.starter.recipe", str(folder)]
    options = ["--tokens", "120000", "--share", "0.45", "--seed", "3", "--tokenizer", str(MODEL)]
    for out, salt in zip(outs, ("1", "2")):
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        printed = subprocess.run(
            [*command, str(out), *options], check=True, capture_output=True, text=True, env=environment
        )
    names = sorted(str(path.relative_to(outs[0])) for path in outs[0].rglob("*") if path.is_file())
    assert f"heldout_skills{os.sep}slots.jsonl" in names
    for name in names:
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name
    _check_mixture(outs[0], printed.stdout)
    held_out = [row for document in corpus.read(folder) if document.held_out for row in document.rows]
    unseen = {json.dumps(row, ensure_ascii=False) for row in held_out}
    trained = (outs[0] / "train.jsonl").read_text(encoding="utf-8").splitlines()
    written = (outs[0] / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    assert written and set(written) <= unseen
    assert unseen.isdisjoint(trained)


def _check_mixture(out: Path, printed: str) -> None:
    total = int(re.search(r"together +[\d,]+ +([\d,]+)", printed)[1].replace(",", ""))  # type: ignore[index]
    assert total == pytest.approx(120_000, rel=0.05)
    quoted = float(re.search(r"quoted from real text.* ([\d.]+)%", printed)[1])  # type: ignore[index]
    assert quoted > 10
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"text"} in [set(row) for row in rows] and {"messages"} in [set(row) for row in rows]
    for path in (out / "heldout_skills").iterdir():
        assert len(path.read_text(encoding="utf-8").splitlines()) == recipe.HELD_OUT_ROWS
    assert (out / "tokenizer" / "tokenizer.json").read_bytes() == (MODEL / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("name", ["starter.yaml", "starter-gpu.yaml"])
def test_the_example_settings_are_those_of_the_starter(name: str) -> None:
    settings = load([Path(__file__).parents[2] / "examples" / name])
    shipped = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    init = settings.model.init
    assert init is not None and settings.train.objective == "text"
    shape = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    assert [getattr(init, key) for key in shape] == [shipped[key] for key in shape]


@pytest.mark.skipif(not (SHARED / "tasks").exists(), reason="needs the shared data folder")
def test_no_label_or_slot_name_of_a_benchmark_is_made() -> None:
    documents = [document for document in corpus.read(SHARED / "corpus") if not document.held_out]
    source = Source(row for document in documents[::8] for row in document.rows)
    slots, labels = _benchmark_names()
    many_words = {_words(name) for name in slots | labels if len(_words(name)) > 1}
    shape = re.compile(r"[A-Za-z]+(?:_[A-Za-z]+)+|[A-Z]?[a-z]+(?:[A-Z][a-z]+)+")
    for name in ("slots", "labels", "format"):
        for row in _rows(name, source, 3000):
            for text in corpus.texts(row):
                assert slots.isdisjoint(re.findall(r'"([^"]+)": ', text))
                assert many_words.isdisjoint(_words(found) for found in shape.findall(text))


def _benchmark_names() -> tuple[set[str], set[str]]:
    rows = [json.loads(line) for line in (SHARED / "tasks/snips/train.jsonl").open(encoding="utf-8")]
    slots = {slot for row in rows for slot in row["slots"]}
    domains = json.loads((SHARED / "tasks/clinc150/domains.json").read_text(encoding="utf-8"))
    labels = {row["intent"] for row in rows} | {label for group in domains.values() for label in group}
    return slots, labels | set(json.loads((SHARED / "tasks/banking77/labels.json").read_text(encoding="utf-8")))


def _words(name: str) -> tuple[str, ...]:
    return tuple(re.findall("[a-z]+", re.sub("([A-Z])", r" \1", name).lower()))
