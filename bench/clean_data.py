"""Do clean data pay? Banking77 with a fifth of the labels made wrong, as it is and mended, under two kinds of model.

    python bench/clean_data.py --only classical                      about a minute of one core
    python bench/clean_data.py --only classical --draws 0 1 2 3 4    rows and errors drawn five times
    python bench/clean_data.py                                       the tuned starter too; goes on where it was stopped
    python bench/clean_data.py --arms dirty cleaned                  these training rows only
    python bench/clean_data.py --page                                only the tables of docs/experiments/clean-data.md

Six sets of training rows: `dirty`, 5,000 rows of which 1,000 have another label, each of the others being as likely;
what `luthier check --fix` makes of them when all labels that it proposes are accepted (`cleaned`), when a person reads
the rows that it doubts and gives each the right label (`reviewed`; the person is played by the published labels), and
when these rows are dropped (`dropped`); `oracle`, the rows as published; `few`, 500 of these. All models are asked the
3,080 test rows. What was made lies in build/clean-data, the result is bench/results/clean-data.json.
"""

import argparse
import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from clean_data_page import ARMS, with_tables
from timing import machine

import luthier
from luthier.core.hashing import generator
from luthier.core.journal import entries
from luthier.core.rundir import write_json
from luthier.core.types import JsonObject
from luthier.data.cluster import cluster
from luthier.graders.accuracy import Grader
from luthier.verdict.arms.classical import Arm
from luthier.verdict.stats import Measure, Sample, interval, paired_all

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "tasks" / "banking77"
BUILD = ROOT / "build" / "clean-data"
RESULT = ROOT / "bench" / "results" / "clean-data.json"
PAGE = ROOT / "docs" / "experiments" / "clean-data.md"

MENDED = ("cleaned", "reviewed", "dropped")
PAIRS = (*((arm, "dirty") for arm in (*MENDED, "oracle", "few")), ("oracle", "reviewed"), ("few", "cleaned"))
SEED, ROWS, FEW, WRONG = 0, 5000, 500, 0.2
# 500 rows are seen ten times as often, so that every model takes the same number of rows in; early stopping may end it.
EPOCHS = {arm: 60 if arm == "few" else 6 for arm in ARMS}
RESAMPLES, NEAR_DUPLICATE, MARGIN = 2000, 0.8, 0.01
_FINDINGS = 3


@dataclass(frozen=True)
class Draw:
    """One drawing of rows and errors, and where what is made of it lies."""

    number: int

    @property
    def folder(self) -> Path:
        """The folder of the draw."""
        return BUILD / f"draw-{self.number}"

    @property
    def decisions(self) -> Path:
        """What `luthier check --fix` decided and proposed."""
        return self.folder / "mending" / "decisions.jsonl"

    def rows(self, arm: str) -> Path:
        """The training rows of an arm."""
        return self.folder / "rows" / f"{arm}.jsonl"

    def scores(self, model: str, arm: str) -> Path:
        """The grades of a model that was trained on an arm's rows, one for each test row in order."""
        return self.folder / "scores" / f"{model}-{arm}.json"


def main() -> None:
    """Measure what was asked for, and write the result and the page."""
    wanted = _arguments()
    if not wanted.page:
        for draw in map(Draw, wanted.draws):
            make_rows(draw)
            for arm, (model, measure) in itertools.product(wanted.arms, MODELS.items()):
                if wanted.only in (None, model) and not draw.scores(model, arm).exists():
                    write_json(draw.scores(model, arm), measure(draw, arm))
        write_json(RESULT, result())
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), read_json(RESULT)), encoding="utf-8")


def make_rows(draw: Draw) -> None:
    """Write the six sets of training rows; those that are there stay."""
    for folder in (draw.folder / "scores", RESULT.parent):
        folder.mkdir(parents=True, exist_ok=True)
    published = list(entries(DATA / "train.jsonl"))
    drawn = generator(draw.number, "clean data").permutation(len(published))[:ROWS]
    rows = [published[place] for place in sorted(drawn.tolist())]
    few = generator(draw.number, "few clean rows").permutation(ROWS)[:FEW]
    for arm, made in {
        "oracle": rows,
        "dirty": corrupted(rows, WRONG, draw.number),
        "few": [rows[place] for place in sorted(few.tolist())],
    }.items():
        if not draw.rows(arm).exists():
            write_rows(draw.rows(arm), made)
    mend(draw, [str(row["label"]) for row in rows])


def corrupted(rows: list[JsonObject], share: float, seed: int) -> list[JsonObject]:
    """Return the rows, this share of them with another label that is drawn evenly from the others."""
    rng = generator(seed, "wrong labels")
    labels = sorted({str(row["label"]) for row in rows})
    wrong = list(rows)
    for place in rng.permutation(len(rows))[: round(share * len(rows))].tolist():
        others = [label for label in labels if label != rows[place]["label"]]
        wrong[place] = {**rows[place], "label": others[rng.integers(len(others))]}
    return wrong


def mend(draw: Draw, right: list[str]) -> None:
    """Clean the dirty rows as a user would: look, edit the file of decisions, apply it. `right` are their true labels."""
    command = ["check", str(draw.rows("dirty")), "--input", "text", "--output", "label", "--fix"]
    if not draw.decisions.exists():
        _luthier(*command, str(draw.decisions.with_name("proposed.jsonl")))
    for arm in MENDED:
        if not draw.rows(arm).exists():
            edited = draw.decisions.with_name(f"{arm}.jsonl")
            write_rows(edited, (decided(arm, decision, right) for decision in entries(draw.decisions)))
            _luthier(*command, str(draw.rows(arm)), "--decisions", str(edited))


def decided(arm: str, decision: JsonObject, right: list[str]) -> JsonObject:
    """Return a decision as the arm's user edits it: only those that propose another label are touched."""
    label, before = proposed_label(decision), decision["before"]
    if label is None or not isinstance(before, dict):
        return decision
    if arm == "dropped":
        return {**decision, "action": "drop"}
    if arm == "reviewed":
        label = right[int(str(decision["line"])) - 1]
    return {**decision, "action": "keep" if label == before["label"] else "fix", "after": {**before, "label": label}}


def proposed_label(decision: JsonObject) -> str | None:
    """Return the other label that a decision proposes, None where it proposes none."""
    before, proposal = decision["before"], decision["proposal"]
    after = proposal["after"] if isinstance(proposal, dict) and proposal["action"] == "fix" else None
    if not isinstance(before, dict) or not isinstance(after, dict) or after["label"] == before["label"]:
        return None
    return str(after["label"])


def cleaning(draw: Draw) -> JsonObject:
    """Count what was proposed against what was made wrong."""
    right = [str(row["label"]) for row in entries(draw.rows("oracle"))]
    given = [str(row["label"]) for row in entries(draw.rows("dirty"))]
    lines = {line for line, (label, other) in enumerate(zip(right, given, strict=True), start=1) if label != other}
    asked = ((int(str(one["line"])), proposed_label(one)) for one in entries(draw.decisions))
    proposed = {line: label for line, label in asked if label is not None}
    found = lines & proposed.keys()
    mended = sum(proposed[line] == right[line - 1] for line in found)
    return {
        "wrong": len(lines), "proposed": len(proposed), "found": len(found), "mended": mended,
        "precision": len(found) / len(proposed), "recall": len(found) / len(lines),
    }  # fmt: skip


def wrong_labels(draw: Draw, arm: str) -> int:
    """Count the rows of an arm whose label is not the published one."""
    published, there = (Counter(pairs_of(draw.rows(name))) for name in ("oracle", arm))
    return (there - published).total()


def classical(draw: Draw, arm: str) -> JsonObject:
    """Fit the classical model on the parts that a run would train on, and grade its answers."""
    parts = draw.folder / "parts" / arm
    if not (parts / "certificate.json").exists():
        luthier.split(draw.rows(arm), out=parts, input="text", output="label", test=DATA / "test.jsonl", quiet=True)
    train, validation, test = (pairs_of(parts / f"{part}.jsonl") for part in ("train", "validation", "test"))
    model = Arm(train, validation, "accuracy", SEED)
    answers = model.answer([question for question, _ in test])
    scores = [Grader().grade(question, given, label).score for (question, label), given in zip(test, answers)]
    return {"train_rows": len(train), "scores": scores, "how": model.description}


def tuned(draw: Draw, arm: str) -> JsonObject:
    """Tune the starter by the rule that a run takes by default, but for the epochs, and read its grades."""
    out = draw.folder / "tuned" / arm
    if out.exists():
        run = luthier.resume(out)
    else:
        settings: JsonObject = {"train.epochs": EPOCHS[arm], "compare.arms": ["tuned"], "threads": 2}
        run = luthier.run(
            draw.rows(arm), input="text", output="label", test=DATA / "test.jsonl", out=out, settings=settings
        )
    table = run.answers.select(["line", "score"]).sort_by("line").to_pydict()
    measured = run.verdict["measured"]
    train_rows = sum(fate == "train" for fate in run.ledger.column("fate").to_pylist())
    return {"train_rows": train_rows, "scores": table["score"], "epochs": EPOCHS[arm], "measured": measured}


MODELS: dict[str, Callable[[Draw, str], JsonObject]] = {"classical": classical, "tuned": tuned}


def result() -> JsonObject:
    """Return all that was measured so far, with intervals that draw whole clusters of test questions."""
    questions = [question for question, _ in pairs_of(DATA / "test.jsonl")]
    sample = Sample(
        cluster(questions, [None] * len(questions), NEAR_DUPLICATE), RESAMPLES, SEED, Measure(margin=MARGIN)
    )
    numbers = sorted(int(folder.name.removeprefix("draw-")) for folder in BUILD.glob("draw-*"))
    draws = {str(number): of_draw(Draw(number), sample) for number in numbers}
    return {"machine": {**machine()}, "test_rows": len(questions), "draws": draws}


def of_draw(draw: Draw, sample: Sample) -> JsonObject:
    """Return what was measured on one drawing."""
    found: JsonObject = {"cleaning": cleaning(draw)}
    for model in MODELS:
        measured = {arm: read_json(draw.scores(model, arm)) for arm in ARMS if draw.scores(model, arm).exists()}
        found[model] = {
            "arms": {
                arm: {"wrong_labels": wrong_labels(draw, arm), **_measured(entry, sample)}
                for arm, entry in measured.items()
            },
            "differences": _differences(measured, sample),
        }
    return found


def _measured(entry: JsonObject, sample: Sample) -> JsonObject:
    scores = np.array(entry["scores"], dtype=np.float64)
    ends = interval(scores, sample.clusters_R, sample.resamples, sample.seed)
    told = {name: value for name, value in entry.items() if name != "scores"}
    return {**told, "accuracy": float(scores.mean()), "interval": [ends.low, ends.high]}


def _differences(measured: dict[str, JsonObject], sample: Sample) -> list[JsonObject]:
    scores = {arm: np.array(entry["scores"], dtype=np.float64) for arm, entry in measured.items()}
    pairs = [(a, b) for a, b in PAIRS if a in scores and b in scores]
    found = paired_all(scores, pairs, sample)
    return [
        {
            "a": a, "b": b, "value": one.value, "interval": [one.interval.low, one.interval.high],
            "p": one.p, "outcome": one.outcome,
        }
        for (a, b), one in zip(pairs, found, strict=True)
    ]  # fmt: skip


def pairs_of(path: Path) -> list[tuple[str, str]]:
    """Read questions and labels."""
    return [(str(row["text"]), str(row["label"])) for row in entries(path)]


def write_rows(path: Path, rows: Iterable[JsonObject]) -> None:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_json(path: Path) -> JsonObject:
    """Read a file of JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def _luthier(*command: str) -> None:
    done = subprocess.run([Path(sys.executable).with_name("luthier"), *command], stdout=subprocess.DEVNULL)
    if done.returncode not in (0, _FINDINGS):
        raise SystemExit(f"luthier {' '.join(command)} ended with {done.returncode}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=[*ARMS], help="these training rows only")
    parser.add_argument("--only", choices=sorted(MODELS), help="this model only")
    parser.add_argument("--draws", nargs="+", type=int, default=[0], help="the drawings of rows and errors, by number")
    parser.add_argument("--page", action="store_true", help="write the tables from the result that is there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
