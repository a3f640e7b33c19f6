"""The few ways in which the generator of the starter's data draws from its random numbers.

Scalar draws through `rng.random()` are ten times faster than `rng.choice`, and millions are made.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def between(rng: np.random.Generator, low: int, high: int) -> int:
    """Return a whole number from `low` to `high`, both included."""
    return low + int(rng.random() * (high - low + 1))


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Return True with the given probability."""
    return rng.random() < probability


def pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """Return one of the items, each as likely as the others."""
    return items[int(rng.random() * len(items))]


def common(rng: np.random.Generator, items: Sequence[Item], fewest: int = 64) -> Sequence[Item]:
    """Return the first items of a list that runs from common to rare, how many being log-uniform from `fewest` up.

    Half of what is drawn from them are items that come back often. A model learns to match and to copy
    those first, within a few hundred steps, and goes on to the rare ones; from rare ones alone it does not learn it.
    """
    if len(items) <= fewest:
        return items
    return items[: int(fewest * (len(items) / fewest) ** rng.random())]


def some(rng: np.random.Generator, items: Sequence[Item], count: int) -> list[Item]:
    """Return `count` different positions' items in random order, or all of them if there are fewer."""
    if count >= len(items):
        return shuffled(rng, items)
    positions: dict[int, None] = {}
    while len(positions) < count:
        positions[int(rng.random() * len(items))] = None
    return [items[position] for position in positions]


def shuffled(rng: np.random.Generator, items: Sequence[Item]) -> list[Item]:
    """Return the items in a random order."""
    return [items[position] for position in rng.permutation(len(items))]


def fill(rng: np.random.Generator, pattern: str) -> str:
    """Replace every "{a|b|c}" of a pattern by one of its alternatives; they do not nest."""
    parts = pattern.split("{")
    out = [parts[0]]
    for part in parts[1:]:
        choices, _, rest = part.partition("}")
        out.append(pick(rng, choices.split("|")))
        out.append(rest)
    return "".join(out)


def listed(text: str, mark: str = " ") -> tuple[str, ...]:
    """Return the entries of an inventory that is written as one text."""
    return tuple(entry.strip() for entry in text.split(mark))
