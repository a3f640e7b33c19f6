"""Choose between an arm's ways of asking on validation rows, with the same budget of answers for every arm.

Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): all candidates answer a few rows, the better half
answers more, until one is left. Candidates that are compared have answered the same rows. The test part is not involved.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.config.settings import GenerateSettings
from luthier.core.hashing import generator, json_hash
from luthier.core.rundir import RunDir, write_json
from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.asking import Candidate, Material
from luthier.verdict.questions import Question

Scores = Callable[[int, Sequence[Question]], Sequence[float]]


@dataclass(frozen=True)
class Choice:
    """The candidate that was chosen, why, and what each candidate reached on how many rows."""

    chosen: int
    because: str
    calls: int
    rows: tuple[int, ...]
    scores: tuple[float | None, ...]

    def as_entry(self, candidates: Sequence[Candidate], budget: int) -> JsonObject:
        """Return what `choices.json` says of an arm."""
        tried: list[JsonValue] = [
            {"name": one.name, "rows": rows, "score": score}
            for one, rows, score in zip(candidates, self.rows, self.scores, strict=True)
        ]
        return {
            "chosen": candidates[self.chosen].name, "because": self.because, "budget": budget, "calls": self.calls,
            "candidates": tried,
        }  # fmt: skip


def choose(candidates: Sequence[Candidate], asked: Sequence[Question], calls: int, scores: Scores) -> Choice:
    """Return the best candidate on the questions `asked`, at most `calls` answers in all; among equals the first.

    `scores` returns a candidate's score on each of some questions; no candidate is asked the same one twice.
    """
    if len(candidates) == 1 or not asked or calls < len(candidates):
        return _first(candidates, asked, calls)
    found: list[list[float]] = [[] for _ in candidates]
    left, used, rounds = list(range(len(candidates))), 0, math.ceil(math.log2(len(candidates)))
    seen = 0
    for number in range(rounds):
        more = (calls - used) // (rounds - number) // len(left)
        until = min(len(asked), seen + max(more, 1 if seen == 0 else 0))
        for place in left:
            found[place] += scores(place, asked[seen:until])
        used += (until - seen) * len(left)
        seen = until
        left.sort(key=lambda place: (-float(np.mean(found[place])), place))
        del left[1 if seen == len(asked) else math.ceil(len(left) / 2) :]
        if len(left) == 1:
            break
    means = tuple(float(np.mean(one)) if one else None for one in found)
    because = f"best on {seen:,} validation rows, of {len(candidates)} ways of asking ({used:,} answers)"
    return Choice(left[0], because, used, tuple(map(len, found)), means)


def validation_order(asked: Sequence[Question], most: int, seed: int) -> list[Question]:
    """Return the validation questions that arms choose on, in an order that all arms share."""
    order = generator(seed, "choosing").permutation(len(asked))[:most]
    return [asked[place] for place in order.tolist()]


def choice_key(arm: str, candidates: Sequence[Candidate], material: Material, decoding: GenerateSettings) -> str:
    """Return a hash of all that an arm's way of asking depends on besides the rows."""
    settings = material.settings.model_dump(
        mode="json", include={"dense", "examples", "added_tokens", "choosing_rows", "choosing_calls"}
    )
    endpoint = material.settings.endpoint
    address: list[JsonValue] = [endpoint.url, endpoint.model] if arm == "endpoint" else []
    how = decoding.model_dump(mode="json", exclude={"batch_size"})
    texts: list[JsonValue] = [[*one] for one in (*material.sources.prompts, *material.sources.documents)]
    return json_hash([[one.name for one in candidates], settings, address, texts, how])


def read_choices(run: RunDir) -> JsonObject:
    """Return what was chosen so far, by arm."""
    return json.loads(run.choices.read_text(encoding="utf-8")) if run.choices.exists() else {}


def record_choice(run: RunDir, arm: str, entry: JsonObject) -> None:
    """Write down what an arm chose."""
    write_json(run.choices, {**read_choices(run), arm: entry})


def _first(candidates: Sequence[Candidate], asked: Sequence[Question], calls: int) -> Choice:
    because = (
        "the only way of asking" if len(candidates) == 1
        else "the first, for there is no validation row to choose on" if not asked
        else f"the first, for a budget of {calls} answers does not reach round {len(candidates)} ways of asking"
    )  # fmt: skip
    return Choice(0, because, 0, (0,) * len(candidates), (None,) * len(candidates))
