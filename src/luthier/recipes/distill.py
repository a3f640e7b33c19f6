"""A long prompt goes into the weights: a model answers under it, graders filter, a model learns to answer without it.

    OUT/asked.json       what was asked for; the same command goes on here, another is refused
    OUT/teacher/         the model under the long prompt, every answer on the disk as it comes
    OUT/rows/            what the tuned model learns from and is judged by
    OUT/run/             an ordinary run, whose arm `prompt` or `endpoint` answers under the long prompt
    OUT/distill.json     the long prompt against the distilled model, with the bill before and after

The inputs are split before anyone answers, so that no test input is learned from. Where right answers stand beside the
inputs, the test rows keep them; else both are held against the long prompt's own answers, and the result says so.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.config.load import with_values
from luthier.config.settings import Settings
from luthier.core.endpoint import address
from luthier.core.errors import DataError, SettingsError
from luthier.core.hashing import json_hash
from luthier.core.rundir import create, fresh_path, open_run, write_atomically, write_json
from luthier.core.types import PARTS, Grader, JsonObject, JsonValue, Part
from luthier.data.knowledge import Document
from luthier.data.split import row_key, split
from luthier.graders.making.spec import NamedGrader, graders_named, needs_answer
from luthier.recipes import run as road
from luthier.recipes.answerers import EndpointAnswerer, Line, ModelAnswerer, journaled
from luthier.recipes.begun import begin
from luthier.recipes.chat import CHAT_TOKENS
from luthier.recipes.inputs import read_inputs
from luthier.recipes.job import Job
from luthier.recipes.material import knows_system_role
from luthier.recipes.plan import resolve_type
from luthier.recipes.prepare import name_of
from luthier.recipes.prompt_sources import read_prompt
from luthier.recipes.verdict_file import read_verdict
from luthier.recipes.voice import Voice
from luthier.verdict.asking import Candidate, with_system
from luthier.verdict.choose import choose_grader
from luthier.verdict.distilled import distilled
from luthier.verdict.questions import Question
from luthier.verdict.sealed import Sealed

RESULT = "distill.json"
Parts = Mapping[Part, Sequence[Question]]


@dataclass(frozen=True)
class Wish:
    """What is to go into the weights: the file with the long prompt, the inputs, the short prompt that is left, and the filter.

    `least` is the score that an answer needs from each of the `graders`; `terms` names what allows an endpoint's answers to
    train a model.
    """

    prompt: Path
    inputs: str
    short: Path | None = None
    graders: tuple[str, ...] = ()
    least: float = 1.0
    terms: str | None = None


def distill(wish: Wish, settings: Settings, out: Path | None, voice: Voice) -> Path:
    """Teach, filter, tune and compare in the folder `out`; return it. What lies there from the same command is not made again."""
    _refuse_silent_terms(wish, settings)
    prompt = read_prompt(wish.prompt)
    asked = read_inputs(wish.inputs, settings.data)
    right_answers = bool(asked and asked[0].wanted)
    graders = _graders(wish, asked, right_answers, voice)
    parts = _parted(asked, settings)
    test = parts["test"] if right_answers else ()
    Sealed([question.row for question in test]).prove((), [prompt])
    folder = _folder(wish, settings, prompt, asked, out)
    learned: Parts = {part: parts[part] for part in PARTS if part != "test" or not right_answers}
    lines = _answered(folder / "teacher", learned, prompt, settings, voice)
    kept, dropped = _filtered(learned, lines, graders, wish.least)
    voice.say(_words_of(kept, dropped))
    if right_answers:
        kept["test"] = [(one, one.wanted) for one in test]
    rows = _write_rows(folder / "rows", kept)
    run = _tuned(folder / "run", rows, wish, settings, voice)
    found = distilled(read_verdict(open_run(run)), _teacher(settings), right_answers)
    write_json(folder / RESULT, {**_facts(folder, wish, settings, lines, dropped), **found, "run": str(run)})
    voice.say(f"{found['because']} {found['next']}")
    return folder


def _refuse_silent_terms(wish: Wish, settings: Settings) -> None:
    endpoint = settings.compare.endpoint
    if endpoint.url is None:
        return
    address(endpoint)
    if not wish.terms:
        raise SettingsError(
            f"the answers of {endpoint.model} would train a model, which many providers forbid. Look at its licence or contract, and "
            "name what allows it: --terms 'Apache-2.0'."
        )


def _graders(wish: Wish, asked: Sequence[Question], right_answers: bool, voice: Voice) -> list[NamedGrader]:
    """Return what filters the answers: the graders that were named, or the one that fits the right answers."""
    named = graders_named(wish.graders)
    needing = [one.name for one in named if needs_answer(one.grader)]
    if needing and not right_answers:
        raise SettingsError(
            f"{needing[0]} compares with a right answer, and the inputs have none; name their column with --output, or take a "
            "grader that needs none, such as json_schema, regex or policy."
        )
    if named or not right_answers:
        return named
    name, reason = choose_grader([question.wanted for question in asked])
    voice.say(f"filtering with {name}: {reason}")
    return graders_named([name])


def _folder(wish: Wish, settings: Settings, prompt: Document, asked: Sequence[Question], out: Path | None) -> Path:
    """Return the folder; one that the same command began is gone on with."""
    request: JsonObject = {
        **{key: str(value) for key, value in asdict(wish).items()},
        "prompt_text": json_hash(prompt.text), "rows": json_hash([question.row.id for question in asked]),
        "settings": settings.model_dump(mode="json", by_alias=True),
    }  # fmt: skip
    folder = fresh_path(f"{name_of(wish.inputs)}-distilled") if out is None else out
    begin(folder, request)
    return folder


def _parted(asked: Sequence[Question], settings: Settings) -> Parts:
    dealt = split(
        [row_key(one.row) for one in asked], settings.split, settings.seed, has_test=False, has_validation=False
    )
    return {
        part: [one for one, of_row in zip(asked, dealt.part, strict=True) if of_row == part] for part in PARTS
    }  # fmt: skip


def _answered(path: Path, parts: Parts, prompt: Document, settings: Settings, voice: Voice) -> dict[str, Line]:
    """Let the teacher answer under the long prompt. It writes freely where the constraint is made of training answers."""
    values: JsonObject = {
        "generate.max_new_tokens": settings.generate.max_new_tokens or CHAT_TOKENS,
        "generate.decode": "generate",
    }
    if settings.generate.constrain in ("labels", "spans"):
        values["generate.constrain"] = None
    run = open_run(path) if (path / "config.yaml").exists() else create(path, path.name)
    job = Job(run, with_values(settings, values), voice)
    asked = [question for part in parts.values() for question in part]
    with run.held():
        resolve_type(job)
        weights = job.settings.compare.endpoint.url
        answerer = ModelAnswerer(job, "base") if weights is None else EndpointAnswerer(job)
        system_role = knows_system_role(job)
        candidate = Candidate(prompt.name, lambda question, room: with_system(question, prompt.text, system_role))
        return journaled(answerer, candidate, asked, run.arm_progress("teacher"), "answer under the long prompt", voice)


def _filtered(
    parts: Parts, lines: Mapping[str, Line], graders: Sequence[NamedGrader], least: float
) -> tuple[dict[Part, list[tuple[Question, str]]], Counter[str]]:
    """Return the answers that are good enough, by part, and for the others how many failed by what."""
    kept: dict[Part, list[tuple[Question, str]]] = {part: [] for part in parts}
    dropped = Counter[str]()
    for part, asked in parts.items():
        for question in asked:
            fault = _fault(question, lines[question.row.id], graders, least)
            if fault:
                dropped[fault] += 1
            else:
                kept[part].append((question, str(lines[question.row.id]["text"])))
    if not kept["train"]:
        raise DataError(
            f"none of the {len(parts['train']):,} answers to training inputs is good enough ({_listed(dropped)}). Look at them in "
            "teacher/answers, change the prompt, or lower --least."
        )
    return kept, dropped


def _fault(question: Question, line: Line, graders: Sequence[NamedGrader], least: float) -> str:
    text = str(line["text"])
    if not text.strip():
        return "empty"
    if line["finish_reason"] == "length":
        return "cut off"
    low = [one.name for one in graders if _score(one.grader, question, text) < least]
    return low[0] if low else ""


def _score(grader: Grader, question: Question, text: str) -> float:
    return grader.grade(question.text, text, question.wanted).score


def _write_rows(folder: Path, parts: Mapping[Part, Sequence[tuple[Question, str]]]) -> dict[Part, Path]:
    """Write the rows without the long prompt and without any other system prompt; a part without rows has no file."""
    folder.mkdir(exist_ok=True)
    written: dict[Part, Path] = {}
    for part, pairs in parts.items():
        if pairs:
            written[part] = folder / f"{part}.jsonl"
            lines = [json.dumps(_row(question, answer), ensure_ascii=False) + "\n" for question, answer in pairs]
            write_atomically(written[part], "".join(lines).encode())
    if "test" not in written:
        raise DataError(
            "no input is left for the test, so nothing could be compared; give more inputs, or raise split.test_share."
        )
    return written


def _row(question: Question, answer: str) -> JsonObject:
    turns = [message.as_dict() for message in question.messages if message.role != "system"]
    row: JsonObject = {"messages": [*turns, {"role": "assistant", "content": answer}]}
    return row if question.row.group is None else {**row, "group": question.row.group}


def _tuned(path: Path, rows: Mapping[Part, Path], wish: Wish, settings: Settings, voice: Voice) -> Path:
    """Walk the ordinary road over the rows, or go on with it."""
    if (path / "config.yaml").exists():
        return road.resume(path, voice).path
    short = None if wish.short is None else read_prompt(wish.short).text
    arms: list[JsonValue] = [*dict.fromkeys([*settings.compare.arms, _teacher(settings), "tuned"])]
    values: JsonObject = {
        **{f"data.{key}": None for key in ("input", "output", "format", "group")}, "data.system": short,
        "data.validation": str(rows["validation"]) if "validation" in rows else None, "data.test": str(rows["test"]),
        "data.path": str(rows["train"]), "data.group": "group" if settings.data.group else None,
        # The first way of asking is the user's prompt, and it is the one that went into the weights.
        "compare.arms": arms, "compare.prompts": [str(wish.prompt)], "compare.choosing_rows": 0,
    }  # fmt: skip
    if "validation" not in rows:
        values["split.validation_share"] = 0.0
    return road.run(None, with_values(settings, values), path, voice).path


def _teacher(settings: Settings) -> str:
    return "prompt" if settings.compare.endpoint.url is None else "endpoint"


def _facts(
    folder: Path, wish: Wish, settings: Settings, lines: Mapping[str, Line], dropped: Counter[str]
) -> JsonObject:
    endpoint = settings.compare.endpoint
    by = settings.model.name if endpoint.url is None else f"{endpoint.model} at {endpoint.url}"
    spent = {
        key: sum(float(str(line[key])) for line in lines.values()) for key in ("tokens_in", "tokens_out", "seconds")
    }
    return {
        "distilled": folder.name, "prompt": str(wish.prompt), "model": settings.model.name, "answered_by": by, "terms": wish.terms,
        "answers": len(lines), "dropped": {**dropped}, "teaching": {**spent},
    }  # fmt: skip


def _words_of(kept: Mapping[Part, Sequence[tuple[Question, str]]], dropped: Counter[str]) -> str:
    counts = ", ".join(f"{len(pairs):,} {part}" for part, pairs in kept.items())
    return f"kept answers: {counts}" + (f"; dropped: {_listed(dropped)}" if dropped else "")


def _listed(dropped: Counter[str]) -> str:
    return ", ".join(f"{count:,} {fault}" for fault, count in dropped.most_common())
