"""From the scores of the arms to the judgement that `verdict.json` holds."""

import json
from collections.abc import Mapping

import numpy as np

from luthier.core import parts
from luthier.core.types import PARTS, JsonObject
from luthier.data.store import count_stored
from luthier.models.load import STARTER
from luthier.recipes.job import Job
from luthier.recipes.opening import Opening
from luthier.verdict.compared import differences, pairs_of
from luthier.verdict.conclude import Circumstances, conclude
from luthier.verdict.figures import Scale
from luthier.verdict.stats import Sample

CHECKS = "luthier.data.checks"


def judged(
    job: Job,
    arms: JsonObject,
    scores: Mapping[str, np.ndarray],
    sample: Sample,
    scale: Scale,
    opening: Opening,
    seeds: JsonObject | None = None,
) -> JsonObject:
    """Return the differences, the outcome with its reasons, and how the test was opened."""
    found = differences(scores, pairs_of(list(scores)), sample)
    rows = len(sample.clusters_R)
    about = Circumstances(
        scale, rows, sample.measure.margin, starter=job.folder.name == STARTER, doubted=doubted_share(job),
        most_doubted=1 - job.settings.check.limits.consistent, unsealed=opening.unsealed, looks=opening.looks, since=opening.since,
        folds=0 if sample.folds_R is None else len(np.unique(sample.folds_R)), seeds=seeds,
    )  # fmt: skip
    return {
        "margin": sample.measure.margin, "clusters": len(np.unique(sample.clusters_R)), "differences": [*found],
        **conclude(arms, found, about).as_entries(), **opening.as_entries(),
    }  # fmt: skip


def doubted_share(job: Job) -> float:
    """Return the share of the rows whose answers a check of consistency doubts, above a hint."""
    findings = json.loads(job.run.findings.read_text(encoding="utf-8"))["findings"]
    consistent = {name for name in parts.names(CHECKS) if parts.load(CHECKS, name, "Check").dimension == "consistent"}
    doubted = {
        row
        for finding in findings
        if finding["check"] in consistent and finding["severity"] != "info"
        for row in finding["rows"]
    }
    kept = sum(count_stored(job.run.part(part)) for part in PARTS)
    return len(doubted) / max(1, kept)
