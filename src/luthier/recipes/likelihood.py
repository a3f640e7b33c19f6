"""Domain adaptation has no answers to grade: base and tuned model are compared by held-out bits per byte."""

import math
import time

import numpy as np
import torch

from luthier.core.errors import DataError
from luthier.core.types import Conversation, JsonObject, Rendered, Row, Text
from luthier.data.loader import SequenceStore, padded
from luthier.recipes.differences import clusters_of
from luthier.recipes.job import Job
from luthier.recipes.judging import judged
from luthier.recipes.opening import open_test
from luthier.train.policy import Policy
from luthier.verdict.answers import AnswerRow, write_answers
from luthier.verdict.figures import scale_of
from luthier.verdict.stats import Measure, Sample, effective_rows, interval, mean

GRADER = "bits_per_byte"


def verdict(job: Job) -> JsonObject:
    """Score the sealed rows with the base and the tuned weights; lower is better."""
    part = job.rendered("test")
    if not part.rows:
        raise DataError(
            "there is no test row to measure bits per byte on; give a test file with --test or a larger split.test_share."
        )
    opening = open_test(job, GRADER)
    weights_R = np.array([num_bytes(row) for row in part.rows], dtype=np.float64)
    clusters_R = clusters_of(job, [row.id for row in part.rows])
    measure = Measure(bounds=None, lower_is_better=True, margin=job.settings.compare.margin)
    scores: dict[str, np.ndarray] = {}
    arms: JsonObject = {}
    for name, model in (("zero_shot", job.base_model), ("tuned", job.tuned_model)):
        nats_R, seconds = row_nats(job, model(), part.rows, part.sequences, name)
        scores[name] = nats_R / math.log(2) / weights_R
        ends = interval(scores[name], clusters_R, job.settings.compare.resamples, job.settings.seed, measure, weights_R)
        tokens = sum(len(sequence.tokens_L) for sequence in part.sequences)
        arms[name] = {
            "score": mean(scores[name], weights_R), "interval": [ends.low, ends.high],
            "effective_rows": effective_rows(scores[name], clusters_R),
            "metrics": {"bits_per_byte": mean(scores[name], weights_R), "bytes": int(weights_R.sum())},
            "tokens_in": tokens, "tokens_out": 0, "seconds": seconds,
        }  # fmt: skip
        _write(job, name, part.rows, scores[name])
    sample = Sample(clusters_R, job.settings.compare.resamples, job.settings.seed, measure, weights_R)
    return {
        "grader": GRADER, "lower_is_better": True, "arms": arms,
        **judged(job, arms, scores, sample, scale_of(GRADER, True), opening),
    }  # fmt: skip


def row_nats(
    job: Job, model: torch.nn.Module, rows: list[Row], sequences: list[Rendered], name: str
) -> tuple[np.ndarray, float]:
    """Return the negative log-likelihood of each row's text in nats, and the seconds it took."""
    policy = Policy(model.eval())
    store = SequenceStore(sequences)
    nats = dict.fromkeys((row.id for row in rows), 0.0)
    start = time.monotonic()
    for index in job.voice.track(f"score {name}", range(len(store)), len(store)):
        batch = padded(store, [index])
        weights = torch.from_numpy(batch.weight_T).to(policy.device)
        nats[store.rows[index]] -= float((policy.logp(batch) * weights).sum())
    return np.array([nats[row.id] for row in rows]), time.monotonic() - start


def num_bytes(row: Row) -> int:
    """The UTF-8 bytes that a row's trained tokens stand for."""
    if isinstance(row.content, Text):
        return len(row.content.text.encode())
    assert isinstance(row.content, Conversation)
    return sum(len(message.content.encode()) for message in row.content.messages if message.weight)


def _write(job: Job, name: str, rows: list[Row], bits_R: np.ndarray) -> None:
    answers = [
        AnswerRow(
            id=row.id,
            file=row.file,
            line=row.line,
            messages=[],
            answer="",
            completion="",
            finish_reason="stop",
            score=float(bits),
            grades={"bits_per_byte": float(bits), "bytes": num_bytes(row)},
        )
        for row, bits in zip(rows, bits_R, strict=True)
    ]
    write_answers(job.run.arm_answers(name), answers)
