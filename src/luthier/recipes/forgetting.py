"""What did the tuning cost elsewhere? General rows that nothing trains, before and after: their code length, their questions.

The weights of a finished training do not change, so this is measured once and kept in `forgetting.json`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from luthier.core.rundir import write_json
from luthier.core.types import JsonObject, Prompt
from luthier.data.normal import normalized
from luthier.recipes.decode import engine
from luthier.recipes.job import Job
from luthier.recipes.likelihood import num_bytes, row_nats
from luthier.verdict.questions import Question, questions
from luthier.verdict.stats import SHARE, Difference, Measure, Sample, mean, paired

# A general answer is short where it can be judged to the letter; what runs on is wrong anyway.
_MOST_ANSWER_TOKENS = 64
_LOSS_MARGIN = 0.01
_SIDES: Mapping[str, Literal["base", "tuned"]] = {"before": "base", "after": "tuned"}


def forgetting(job: Job) -> JsonObject | None:
    """Return what `verdict.json` says of general rows before and after tuning; None for a run without general rows."""
    if not job.run.general("general").exists():
        return None
    if not job.run.forgetting.exists():
        write_json(job.run.forgetting, _measured(job))
    return json.loads(job.run.forgetting.read_text(encoding="utf-8"))


def _measured(job: Job) -> JsonObject:
    part = job.rendered_general("general", "text")
    asked = questions(job.rendered_general("general", "sft").rows)
    losses: dict[str, np.ndarray] = {}
    right: dict[str, np.ndarray] = {}
    weights_R = np.array([num_bytes(row) for row in part.rows], dtype=np.float64)
    for name, weights in _SIDES.items():
        model = job.base_model() if weights == "base" else job.tuned_model()
        nats_R, _ = row_nats(job, model, part.rows, part.sequences, f"general rows {name}")
        losses[name] = nats_R / math.log(2) / weights_R
        del model
        right[name] = _right(job, asked, weights)
    settings = job.settings
    lower = Measure(bounds=None, lower_is_better=True, margin=_LOSS_MARGIN)
    sample = Sample(np.arange(len(part.rows)), settings.compare.resamples, settings.seed, lower, weights_R)
    source = str(settings.data.general)
    return {
        "source": source, "replay": settings.train.replay, "rows": len(part.rows), "loss": _entry(losses, sample),
        "questions": len(asked), "right": _entry(right, _of_questions(job, len(asked))) if asked else None,
    }  # fmt: skip


def _of_questions(job: Job, count: int) -> Sample:
    measure = Measure(SHARE.bounds, margin=job.settings.compare.margin)
    return Sample(np.arange(count), job.settings.compare.resamples, job.settings.seed, measure)


def _entry(scores: dict[str, np.ndarray], sample: Sample) -> JsonObject:
    found: Difference = paired(
        scores["after"],
        scores["before"],
        sample.clusters_R,
        sample.resamples,
        sample.seed,
        sample.measure,
        sample.weights_R,
    )
    return {
        "before": mean(scores["before"], sample.weights_R), "after": mean(scores["after"], sample.weights_R),
        "value": found.value, "interval": [found.interval.low, found.interval.high], "outcome": found.outcome,
    }  # fmt: skip


def _right(job: Job, asked: Sequence[Question], weights: Literal["base", "tuned"]) -> np.ndarray:
    """Return a 1 for each general question that is answered to the letter, case, marks and white space aside; decoded freely."""
    if not asked:
        return np.zeros(0)
    prompts = [Prompt(one.row.id, tuple(job.renderer.prompt(one.messages, one.tools))) for one in asked]
    longest = max(len(job.tokenizer.encode(one.wanted, add_special_tokens=False)) for one in asked)
    answers = {one.row: one.text for one in engine(job, weights, budget=min(_MOST_ANSWER_TOKENS, longest + 8))(prompts)}
    return np.array([float(normalized(answers[one.row.id]) == normalized(one.wanted)) for one in asked])
