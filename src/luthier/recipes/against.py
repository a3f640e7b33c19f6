"""Two runs or more on the test rows that they share: is one better, and how much of it is the training seed?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from luthier.config.load import load
from luthier.config.settings import Settings
from luthier.core.errors import DataError, RunFolderError, SettingsError
from luthier.core.hashing import json_hash
from luthier.core.rundir import RunDir, open_run
from luthier.core.types import JsonObject
from luthier.recipes.differences import clusters_in
from luthier.recipes.verdict_file import read_verdict
from luthier.verdict.answers import answer_rows, read_answers
from luthier.verdict.conclude import arm_name, best_rival
from luthier.verdict.figures import Scale, ends, number, objects, scale_of
from luthier.verdict.rules import TRAINED
from luthier.verdict.seeds import over_seeds
from luthier.verdict.stats import Measure, Sample, paired_all

# What a run is given or finds in its own rows, and what judges it; the rest is the recipe.
_NO_RECIPE = {
    "seed": True, "threads": True, "data": True, "compare": True, "export": True,
    "train": {"steps", "batch_tokens", "micro_tokens", "validate_every", "layout", "compile"},
    "generate": {"max_new_tokens", "batch_size"},
}  # fmt: skip


@dataclass(frozen=True)
class _Judged:
    """A finished run: its verdict, and the score of every arm by the content of the row, in the order of its test."""

    run: RunDir
    verdict: JsonObject
    scores: Mapping[str, Mapping[str, float]]
    ids: Mapping[str, str]
    settings: Settings

    @property
    def name(self) -> str:
        return self.run.path.name


def against(path: Path, others: Sequence[Path], margin: float | None) -> JsonObject:
    """Compare the arms of a run with the same arms of others, row by row on the test rows that all of them share."""
    first, *rest = runs = [_judged(one) for one in (path, *others)]
    _refuse_unlike(runs)
    shared = [key for key in first.ids if all(key in one.ids for one in rest)]
    if not shared:
        sizes = ", ".join(f"{one.name} {len(one.ids):,}" for one in runs)
        raise DataError(f"these runs share no test row ({sizes}); give each run the same test file with --test.")
    settings = first.settings
    clusters_R = clusters_in(first.run, [first.ids[key] for key in shared])
    measure = Measure(
        bounds=None if first.verdict.get("lower_is_better") else (0.0, 1.0),
        lower_is_better=bool(first.verdict.get("lower_is_better")),
        margin=settings.compare.margin if margin is None else margin,
    )
    sample = Sample(clusters_R, settings.compare.resamples, settings.seed, measure)
    names = _names(runs)
    arms = [arm for arm in first.scores if all(arm in one.scores for one in rest)]
    scores = {
        f"{arm}\n{name}": np.array([one.scores[arm][key] for key in shared])
        for arm in arms
        for name, one in zip(names, runs, strict=True)
    }
    return {
        "run": names[0], "against": [*names[1:]], "grader": first.verdict["grader"], "margin": measure.margin,
        "lower_is_better": measure.lower_is_better,
        "rows": len(shared), "clusters": len(np.unique(clusters_R)),
        "arms": {arm: {name: float(scores[f"{arm}\n{name}"].mean()) for name in names} for arm in arms},
        "differences": [*_differences(arms, names, scores, sample)],
        "seeds": _seeds(runs, names, scores, sample) if _one_recipe(runs) else None,
    }  # fmt: skip


def as_table(found: JsonObject) -> Table:
    """Return the same for a person."""
    names = [str(found["run"]), *map(str, found["against"] if isinstance(found["against"], list) else [])]
    scale = scale_of(str(found["grader"]), bool(found["lower_is_better"]))
    seeds = objects(found["seeds"])
    table = Table(caption=Text(_sentence(found, seeds, scale)), caption_justify="left", caption_style="bold")
    for heading in ("arm", *names, "difference", "95 % interval", "outcome"):
        table.add_column(heading)
    differences = found["differences"]
    assert isinstance(differences, list)
    for entry in map(objects, differences):
        arm = str(entry["arm"])
        scores = objects(objects(found["arms"])[arm])
        cells = [scale.score(number(scores, name)) if name in (names[0], entry["b"]) else "" for name in names]
        judged = (scale.gap(number(entry, "value")), scale.gap_interval(ends(entry)), str(entry["outcome"]))
        table.add_row(*(Text(cell) for cell in (arm_name(arm), *cells, *judged)))
    return table


def _judged(path: Path) -> _Judged:
    run = open_run(path)
    verdict = read_verdict(run)
    if verdict["outcome"] == "refused":
        raise RunFolderError(f"{path}: its test part is no test, so nothing can be compared: {verdict['because']}")
    scores: dict[str, dict[str, float]] = {}
    ids: dict[str, str] = {}
    for arm in objects(verdict["arms"]):
        rows = answer_rows(read_answers(run.arm_answers(arm)))
        keys = [json_hash([list(row.messages), row.answer] if row.messages else row.id) for row in rows]
        scores[arm] = {key: row.score for key, row in zip(keys, rows, strict=True)}
        ids = {key: row.id for key, row in zip(keys, rows, strict=True)}
    return _Judged(run, verdict, scores, ids, load([run.config]))


def _refuse_unlike(runs: Sequence[_Judged]) -> None:
    graders = {str(one.verdict["grader"]) for one in runs}
    if len(graders) > 1:
        raise SettingsError(
            f"these runs are graded with {' and '.join(sorted(graders))}, so their scores cannot be compared; judge them "
            "alike with: luthier compare RUN --set compare.grader=NAME"
        )


def _names(runs: Sequence[_Judged]) -> list[str]:
    """Return the folders' names, told apart by their number where two are equal."""
    names = [one.name for one in runs]
    return [name if names.count(name) == 1 else f"{name} ({place + 1})" for place, name in enumerate(names)]


def _differences(
    arms: Sequence[str], names: Sequence[str], scores: Mapping[str, np.ndarray], sample: Sample
) -> list[JsonObject]:
    pairs = [(arm, names[0], other) for arm in arms for other in names[1:]]
    found = paired_all(scores, [(f"{arm}\n{a}", f"{arm}\n{b}") for arm, a, b in pairs], sample)
    return [
        {
            "arm": arm, "a": a, "b": b, "value": one.value, "interval": [one.interval.low, one.interval.high],
            "outcome": one.outcome, "p": one.p,
        }
        for (arm, a, b), one in zip(pairs, found, strict=True)
    ]  # fmt: skip


def _one_recipe(runs: Sequence[_Judged]) -> bool:
    """Tell whether the runs differ in nothing but the seed."""
    recipes = {one.settings.model_dump_json(exclude=_NO_RECIPE) for one in runs}
    return len(recipes) == 1 and len({one.settings.seed for one in runs}) == len(runs)


def _seeds(
    runs: Sequence[_Judged], names: Sequence[str], scores: Mapping[str, np.ndarray], sample: Sample
) -> JsonObject | None:
    """Judge the trained arm against the best other arm over all seeds."""
    arms = objects(runs[0].verdict["arms"])
    trained = next((arm for arm in TRAINED if f"{arm}\n{names[-1]}" in scores), None)
    rival = best_rival(
        {arm: entry for arm, entry in arms.items() if f"{arm}\n{names[-1]}" in scores},
        scale_of(str(runs[0].verdict["grader"]), sample.measure.lower_is_better),
    )
    if trained is None or rival is None:
        return None
    gains_KR = np.stack([scores[f"{trained}\n{name}"] - scores[f"{rival}\n{name}"] for name in names])
    entry = over_seeds(gains_KR, sample.clusters_R, sample.measure).as_entry()
    return {"arm": trained, "against": rival, "seeds": len(runs), **entry}


def _sentence(found: JsonObject, seeds: JsonObject, scale: Scale) -> str:
    rows = f"On the {number(found, 'rows'):,.0f} test rows that these runs share, row by row."
    if not seeds:
        return f"{rows} They differ in more than the seed, so this holds for these weights alone."
    return (
        f"{rows} Over {number(seeds, 'seeds'):.0f} training seeds the {arm_name(str(seeds['arm']))} less the "
        f"{arm_name(str(seeds['against']))} is {scale.gap(number(seeds, 'value'))} "
        f"(95 % interval {scale.gap_interval(ends(seeds))}): {seeds['outcome']}. Standard error over rows "
        f"{scale.gap(number(seeds, 'error_over_rows')).lstrip('+')}, over seeds {scale.gap(number(seeds, 'error_over_seeds')).lstrip('+')}."
    )
