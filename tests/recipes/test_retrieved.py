"""A model that is trained with passages before its questions: the same prompts as the arm asks, and nothing of its own row in them."""

import json
import re
from pathlib import Path

import pytest
from command import needs_starter
from small_run import SETTINGS

import luthier
from luthier.config.load import load
from luthier.core.errors import DataError, SettingsError
from luthier.core.journal import entries
from luthier.core.rundir import create
from luthier.core.types import Conversation, JsonValue
from luthier.recipes.arm_settings import with_its_arm
from luthier.recipes.compare import compare
from luthier.recipes.job import Job
from luthier.recipes.material import material_of
from luthier.recipes.prepare import read_stage, split_stage
from luthier.recipes.run import resume
from luthier.recipes.voice import Voice
from luthier.verdict.arms.tuned_retrieval import Arm
from luthier.verdict.questions import questions

pytestmark = needs_starter
THINGS = "invoice refund parcel courier password login receipt address avatar profile".split()
PLACES = "Rome Oslo Bern Riga".split()
SMALL: dict[str, JsonValue] = {
    "data.input": "text", "data.output": ["queue"], "data.group": "thing", "split.near_duplicate": 1, "split.test_share": 0.2,
    "split.validation_share": 0.2, "compare.grader": "exact", "data.general": "none", "train.retrieved": 2,
}  # fmt: skip


def tickets() -> list[dict[str, str]]:
    """Ten groups of four rows that share their thing; the words of a group's rows are most alike."""
    return [
        {
            "text": f"The {thing} from {place} is wrong, whose {thing} is it?",
            "queue": f"{place} {thing}s",
            "thing": thing,
        }
        for thing in THINGS
        for place in PLACES
    ]


def prepared(folder: Path, rows: list[dict[str, str]] | None = None, **settings: JsonValue) -> Job:
    """A run whose rows are read and split."""
    folder.mkdir(exist_ok=True)
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows or tickets()), encoding="utf-8")
    named = {"data.path": str(data), **SMALL, **{key.replace("__", "."): value for key, value in settings.items()}}
    job = Job(create(folder / "run", "retrieved"), load([], [], named), Voice(quiet=True))
    read_stage(job, None)
    split_stage(job)
    return job


def asked(job: Job, part: str) -> dict[str, str]:
    """The last question of each row of a part, by its answer."""
    found = [row.content for row in job.rows(part) if isinstance(row.content, Conversation)]  # type: ignore[arg-type]
    return {content.messages[-1].content: content.messages[-2].content for content in found}


def trained(job: Job, part: str) -> list[str]:
    """The sequences of a part as texts."""
    return [job.tokenizer.decode(one.tokens_L.tolist()) for one in job.rendered(part).sequences]  # type: ignore[arg-type]


def test_a_row_sees_other_clusters_of_the_training_part_and_never_its_own_or_a_held_out_row(tmp_path):
    job = prepared(tmp_path)
    known = asked(job, "train")
    for part in ("train", "validation"):
        for text in trained(job, part):
            passages = re.findall(r"\[\d\] (.*)\nAnswer: (.*)", text)
            assert len(passages) == 2 and all(known[answer] == question for question, answer in passages)
            (thing,) = re.findall(r"Question: The (\w+) from", text)
            assert thing not in {re.findall(r"The (\w+) from", question)[0] for question, _ in passages}, text
    assert len(trained(job, "train")) == len(known) == len(job.rendered("train").rows)
    assert not any("Context:" in text for text in trained(job, "test")), "what the arms put there they put there"
    rows = {row.id: row.content for row in job.rows("train")}
    assert all(rows[row.id] == row.content for row in job.rendered("train").rows), (
        "the rows themselves stay as they are"
    )


def test_without_the_setting_no_row_has_passages(tmp_path):
    assert not any("Context:" in text for text in trained(prepared(tmp_path, train__retrieved=0), "train"))


def test_the_arm_asks_first_in_the_very_form_that_was_trained(tmp_path):
    job = prepared(tmp_path)
    first = Arm().candidates(material_of(job))[0]
    assert first.name == "2 passages from the training rows"
    sequences = {one.row: one for one in job.rendered("validation").sequences}
    for question in questions(job.rows("validation")):
        prompt = job.renderer.prompt(first.ask(question, job.settings.compare.added_tokens))
        one = sequences[question.row.id]
        assert prompt == one.tokens_L[: len(prompt)].tolist() and not one.weight_L[: len(prompt)].any()


def test_passages_of_the_knowledge_are_trained_too_and_what_gives_test_rows_away_is_refused(tmp_path):
    facts = tmp_path / "facts.md"
    facts.write_text("\n\n".join(f"Every {thing} is kept in cellar {n}." for n, thing in enumerate(THINGS)))
    job = prepared(tmp_path / "a", compare__knowledge=str(facts))
    assert all("is kept in cellar" in text for text in trained(job, "train"))
    assert Arm().candidates(material_of(job))[0].name == "2 passages from the knowledge"
    question, answer = next((question, answer) for answer, question in asked(job, "test").items())
    facts.write_text(f"{question}\n{answer}\n")
    with pytest.raises(DataError, match=r"leak: .*facts\.md holds the question and the answer"):
        prepared(tmp_path / "b", compare__knowledge=str(facts)).rendered("train")


def test_made_rows_see_nothing_of_the_cluster_that_they_were_made_from(tmp_path):
    names, cities = "Ann Bo Cy Di Ed Fay Gil Hal".split(), "Rome Oslo Bern Riga Kyiv Nice Bari Linz".split()
    rows = [
        {"text": f"{verb} {name} in {city}", "who": name, "city": city, "group": name}
        for verb in ("call", "meet", "see")
        for name, city in zip(names, cities)
    ]
    job = prepared(tmp_path, rows, train__swaps=2, data__output=["who", "city"], data__group="group")
    name_of = {row.id: row.group for row in job.rows("train")}
    made = job.rendered("train").made
    for one in made:
        passages = re.findall(r"\[\d\] (.*)\nAnswer:", job.tokenizer.decode(one.tokens_L.tolist()))
        assert passages and not any(str(name_of[one.row.partition("~")[0]]) in passage for passage in passages)
    assert made


def test_where_passages_leave_no_room_for_the_answer_there_are_fewer(tmp_path):
    plain = max(prepared(tmp_path / "plain", train__retrieved=0).rendered("train").store.lengths)
    job = prepared(tmp_path / "short", train__max_length=int(plain) + 40)
    rendered = job.rendered("train")
    assert not rendered.problems and rendered.store.lengths.max() <= plain + 40
    told = [text.count("Answer:") for text in trained(job, "train")]
    assert set(told) <= {0, 1} and 1 in told


def test_kept_sequences_depend_on_the_passages(tmp_path):
    facts = tmp_path / "facts.md"
    facts.write_text("Every parcel is kept in the cellar.")
    job = prepared(tmp_path, compare__knowledge=str(facts))
    digest = job.training_store.digest()
    again = Job(job.run, job.settings, Voice(quiet=True))
    assert again.training_store.digest() == digest and not again._rendered
    facts.write_text("Every parcel is kept in the attic.")
    assert Job(job.run, job.settings, Voice(quiet=True)).training_store.digest() != digest


def test_the_arm_comes_with_the_setting_and_arms_without_it_are_refused():
    settings = load([], ["train.retrieved=3"])
    assert with_its_arm(settings).compare.arms == (*settings.compare.arms, "tuned_retrieval")
    assert with_its_arm(load([])).compare.arms == load([]).compare.arms
    with pytest.raises(SettingsError, match=r"train\.retrieved.*tuned_retrieval"):
        with_its_arm(load([], ["train.retrieved=3", "compare.arms=[classical, tuned]"]))


def test_a_run_says_what_its_arms_were_trained_with_and_keeps_its_passages(tmp_path):
    settings = {
        **SETTINGS,
        "train.retrieved": 1,
        "compare.choosing_calls": 4,
        "compare.choosing_rows": 2,
        "compare.grader": "exact",
    }
    run = luthier.run(tickets(), input="text", output="queue", out=tmp_path / "run", settings=settings, quiet=True)
    page = (run.path / "report.html").read_text()
    notes = {entry["arm"]: str(entry["note"]) for entry in entries(run.path / "events.jsonl") if "note" in entry}
    assert notes["tuned"].endswith("trained with 1 passage before each question, and asked without them here")
    assert notes["tuned_retrieval"].endswith("trained with 1 passage before each question")
    assert notes["tuned"] in page
    assert any("train.retrieved=1" in reason for reason in run.verdict["reasons"])
    assert "1 retrieved passages" in (run.path / "card.md").read_text()
    choices = json.loads((run.path / "choices.json").read_text())
    assert choices["tuned_retrieval"]["candidates"][0]["name"] == "1 passage from the training rows"
    with pytest.raises(SettingsError, match=r"compare\.added_tokens: the model is trained with passages"):
        compare(run.path, Voice(quiet=True), {"compare.added_tokens": 64})
    resume(run.path, Voice(quiet=True))
    assert run.verdict["outcome"] != "refused"
