"""Steps of rows, dealt into forward passes of bounded size and these into parts whose scores are computed together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# A pass takes at most so many tokens, of one row at most so many: they bound what is in memory between layers, and scores.
_MOST_TOKENS, _LONGEST = 2048, 512
_PART_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Step:
    """Tokens to run behind what a line holds."""

    line: int
    tokens: Sequence[int]


def passes(steps: Sequence[Step]) -> Iterator[list[tuple[int, Step, bool]]]:
    """Deal steps into passes of bounded size: the place of each, what of it is run, and whether that is its end."""
    waiting: list[tuple[int, Step, bool]] = []
    size = 0
    for place, step in enumerate(steps):
        left = step.tokens
        while len(left) > _LONGEST:
            yield [(place, Step(step.line, left[:_LONGEST]), False)]
            left = left[_LONGEST:]
        if size + len(left) > _MOST_TOKENS:
            yield waiting
            waiting, size = [], 0
        waiting.append((place, Step(step.line, left), True))
        size += len(left)
    if waiting:
        yield waiting


def parts(steps: Sequence[Step]) -> Iterator[tuple[slice, int]]:
    """Yield the rows of each part, and how many tokens of the pass come before it."""
    start = before = 0
    for place in range(1, len(steps) + 1):
        longest = len(steps[start].tokens)
        if (
            place == len(steps)
            or (place - start + 1) * longest > _PART_TOKENS
            or 2 * len(steps[place].tokens) < longest
        ):
            yield slice(start, place), before
            before += sum(len(step.tokens) for step in steps[start:place])
            start = place
