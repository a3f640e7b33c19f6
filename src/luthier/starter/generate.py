"""The procedural part of the starter's data: rows of every skill, as many as are asked for.

A skill is a file in `skills/` with `SHARE`, its share of the generated tokens, `QUOTES_CORPUS`,
whether its answers are quoted from real text, and `example(rng, source)`, which makes one row.
Row number n of a skill is a function of (seed, stream, skill, n) and the source alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from luthier.core import parts
from luthier.core.hashing import derived_seed
from luthier.core.types import JsonObject
from luthier.starter.source import Source

FOLDER = "luthier.starter.skills"
_ROWS_PER_GENERATOR = 64  # making one takes 11 us, a short row 20 to 40


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill: how much of the generated tokens it makes up and how a row of it is made."""

    name: str
    share: float
    quotes_corpus: bool
    example: Callable[[np.random.Generator, Source], JsonObject]


def skills(only: Sequence[str] = ()) -> list[Skill]:
    """Return all skills by name, or those named, with shares that add up to one."""
    found = [
        Skill(
            name,
            float(parts.load(FOLDER, name, "SHARE")),
            bool(parts.load(FOLDER, name, "QUOTES_CORPUS")),
            parts.load(FOLDER, name, "example"),
        )
        for name in only or parts.names(FOLDER)
    ]
    total = sum(skill.share for skill in found)
    return [Skill(skill.name, skill.share / total, skill.quotes_corpus, skill.example) for skill in found]


def rows(skill: Skill, source: Source, seed: int, stream: str = "train") -> Iterator[JsonObject]:
    """Yield rows of a skill without end; another stream gives other rows."""
    for block in count():
        rng = np.random.Generator(np.random.PCG64(derived_seed("starter", seed, stream, skill.name, block)))
        for _ in range(_ROWS_PER_GENERATOR):
            yield skill.example(rng, source)
