"""Learned or memorized? Two probes of the tuned arm's answers, from nothing but texts and scores.

Verbatim: a completion that repeats a long run of words of one training answer, which stands neither in what was asked
nor in what was wanted, has it by heart. Runs that three training answers or more have in common are the house's own
phrases, not memory. Near and far: where the score falls with the distance from the nearest training question, and falls
further than that of an arm that trained nothing, the model knows its rows rather than its task.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from luthier.core.types import JsonObject
from luthier.verdict.answers import AnswerRow
from luthier.verdict.figures import number
from luthier.verdict.stats import Sample, intervals, mean

SPAN_WORDS = 12
_HOUSE_PHRASE = 3
_FEWEST_IN_A_HALF = 10
_LONGEST_EXAMPLE = 400

Span = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    row: AnswerRow
    words: Span


def memorized(rows: Sequence[AnswerRow], training_answers: Sequence[str]) -> JsonObject | None:
    """Return how many completions repeat a long span of a training answer; None where no completion is long enough."""
    long = [row for row in rows if len(row.completion.split()) >= SPAN_WORDS]
    if not long:
        return None
    said = {span for row in long for span in _spans(row.completion.split())}
    times: Counter[Span] = Counter()
    for answer in dict.fromkeys(training_answers):
        times.update(said.intersection(_spans(answer.split())))
    known = {span for span, count in times.items() if count < _HOUSE_PHRASE}
    found = [_Found(row, words) for row in long if (words := _longest(row, known))]
    longest = max(found, key=lambda one: len(one.words), default=None)
    return {
        "span_words": SPAN_WORDS, "rows": len(found), "of": len(long),
        "longest_words": len(longest.words) if longest else 0,
        "example": {"row": longest.row.id, "text": " ".join(longest.words)[:_LONGEST_EXAMPLE]} if longest else None,
    }  # fmt: skip


def together(found: Sequence[JsonObject | None]) -> JsonObject | None:
    """Return what was found of several models' answers as one; None where no completion of any was long enough."""
    known = [one for one in found if one is not None]
    if len(known) < 2:
        return known[0] if known else None
    longest = max(known, key=lambda one: number(one, "longest_words"))
    return {
        **longest,
        "rows": sum(int(number(one, "rows")) for one in known),
        "of": sum(int(number(one, "of")) for one in known),
    }


def near_and_far(scores: Mapping[str, np.ndarray], likeness_R: np.ndarray, sample: Sample) -> JsonObject | None:
    """Return the score of each arm on the half of the rows nearest to training and on the rest; None for too few rows."""
    near_R = likeness_R > np.median(likeness_R)
    if min(near_R.sum(), (~near_R).sum()) < _FEWEST_IN_A_HALF:
        return None
    halves = {"near": _half(scores, likeness_R, near_R, sample), "far": _half(scores, likeness_R, ~near_R, sample)}
    return {**halves}


def _spans(words: Sequence[str]) -> Iterator[Span]:
    return (tuple(words[start : start + SPAN_WORDS]) for start in range(len(words) - SPAN_WORDS + 1))


def _longest(row: AnswerRow, known: set[Span]) -> Span:
    """Return the longest run of a completion whose every span is known and neither asked nor wanted."""
    given = " ".join([*(str(message.get("content")) for message in row.messages), row.answer]).split()
    allowed = set(_spans(given))
    words, best, start = row.completion.split(), (0, 0), None
    for place, span in enumerate(_spans(words)):
        if span not in known or span in allowed:
            start = None
            continue
        start = place if start is None else start
        best = max(best, (place + SPAN_WORDS - start, -start))
    length, begin = best
    return tuple(words[-begin : -begin + length])


def _half(scores: Mapping[str, np.ndarray], likeness_R: np.ndarray, chosen_R: np.ndarray, sample: Sample) -> JsonObject:
    part = Sample(sample.clusters_R[chosen_R], sample.resamples, sample.seed, sample.measure)
    arms: JsonObject = {}
    for name, scores_R in scores.items():
        low_S, high_S = intervals(np.asarray(scores_R, dtype=np.float64)[chosen_R][:, None], part)
        arms[name] = {"score": mean(scores_R[chosen_R]), "interval": [float(low_S[0]), float(high_S[0])]}
    return {"rows": int(chosen_R.sum()), "likeness": mean(likeness_R[chosen_R]), "arms": arms}
