"""Repeat what was seen: random word lists, cycles that go on, and look-ups of a word's partner."""

import numpy as np

from luthier.core.types import JsonObject
from luthier.starter import names
from luthier.starter.draw import between, chance, common, fill, pick, some
from luthier.starter.rows import Pair, chat, row
from luthier.starter.source import Source

SHARE = 0.12
QUOTES_CORPUS = False


def example(rng: np.random.Generator, source: Source) -> JsonObject:
    """Pose a list to repeat, a cycle to continue or a table to look things up in."""
    kind = rng.random()
    if kind < 0.35:
        return _list(rng, source)
    if kind < 0.6:
        return _cycle(rng, source)
    return _table(rng, source)


def _atoms(rng: np.random.Generator, source: Source, count: int) -> list[str]:
    kind = rng.random()
    if kind < 0.6:
        return some(rng, common(rng, source.words), count)
    if kind < 0.75:
        return some(rng, common(rng, source.names), count)
    if kind < 0.85:
        return [names.code(rng) for _ in range(count)]
    return [source.span(rng, 1, 3) for _ in range(count)]


def _list(rng: np.random.Generator, source: Source) -> JsonObject:
    mark = pick(rng, (" ", ", ", "\n", " | ", "; ", " / "))
    lists = [mark.join(_atoms(rng, source, between(rng, 2, 16))) for _ in range(between(rng, 1, 3))]
    asked = fill(
        rng, "{Repeat|Copy|Say again|Echo|Write out} {the list|the words|everything|these}{.|:| in the same order.}"
    )
    return chat(rng, asked, [Pair(text, text) for text in lists])


def _cycle(rng: np.random.Generator, source: Source) -> JsonObject:
    atoms = _atoms(rng, source, between(rng, 2, 8))
    shown_count = len(atoms) * 2 + between(rng, 0, len(atoms) - 1)
    total = [atoms[place % len(atoms)] for place in range(shown_count + between(rng, 3, 14))]
    mark = pick(rng, (" ", ", ", "\n", " - "))
    more = len(total) - shown_count
    asked = (
        fill(rng, "{Continue|Go on with|Extend|Keep going with} the {pattern|series|row|sequence}")
        + f" for {more} more:"
    )
    return row(
        rng,
        [("user", f"{asked}\n{mark.join(total[:shown_count])}"), ("assistant", mark.join(total[shown_count:]))],
    )


def _table(rng: np.random.Generator, source: Source) -> JsonObject:
    keys = list(dict.fromkeys(_atoms(rng, source, between(rng, 3, 10))))
    values = _atoms(rng, source, len(keys))
    mark, gap = pick(rng, (": ", " = ", " -> ", " is ", " - ")), pick(rng, ("\n", "\n", "; ", ", "))
    table = gap.join(f"{key}{mark}{value}" for key, value in zip(keys, values))
    asked = fill(rng, "{What is|Look up|Give me|Find|Tell me} ") if chance(rng, 0.6) else ""
    pairs = [Pair(f"{asked}{keys[place]}", values[place]) for place in some(rng, range(len(keys)), between(rng, 1, 6))]
    return chat(rng, table, pairs)
