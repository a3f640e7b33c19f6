"""Names for labels and keys, put together from many small parts so that almost every task has new ones.

No name of a public benchmark is listed here; a test compares what comes out with them.
"""

from typing import Literal

import numpy as np

from luthier.starter.draw import between, chance, listed, pick
from luthier.starter.source import Source

Style = Literal["snake", "camel", "pascal", "spaced", "kebab", "capital", "upper"]
STYLES: tuple[Style, ...] = (
    "snake",
    "snake",
    "snake",
    "camel",
    "pascal",
    "pascal",
    "spaced",
    "kebab",
    "capital",
    "upper",
)

_MATTERS = listed(
    "question request help info issue talk problem check report note update advice complaint story reply notice query "
    "matter case topic group plan idea news review opinion tip rule wish offer claim reason memory lesson"
)
_DOINGS = listed(
    "ask get tell open close start stop move keep explain compare fix lose want need like describe mention discuss "
    "suggest recommend check save send bring join leave count"
)
_ADJECTIVES = listed(
    "new old main first last full short long other early late small big red blue green quick slow local extra final "
    "daily home front open exact known"
)


def styled(words: list[str], style: Style) -> str:
    """Write words as one name: find_room, findRoom, FindRoom, room, find-room, Find room or FIND_ROOM."""
    lower = [word.lower() for word in words]
    if style == "camel":
        return lower[0] + "".join(word.capitalize() for word in lower[1:])
    if style == "pascal":
        return "".join(word.capitalize() for word in lower)
    if style == "capital":
        return " ".join(lower).capitalize()
    if style == "upper":
        return "_".join(lower).upper()
    return {"snake": "_", "spaced": " ", "kebab": "-"}[style].join(lower)


def label(rng: np.random.Generator, source: Source, style: Style, topic: str | None = None) -> str:
    """Return a name for a class of texts, about the topic if there is one."""
    core = topic or source.word(rng)
    kind = rng.random()
    if kind < 0.4:
        return styled([core, pick(rng, _MATTERS)], style)
    if kind < 0.65:
        return styled([pick(rng, _DOINGS), core], style)
    if kind < 0.9:
        return styled([core, source.word(rng)], style)
    return styled([source.word(rng), core, pick(rng, _MATTERS)], style)


def key(rng: np.random.Generator, style: Style, nouns: tuple[str, ...]) -> str:
    """Return a key for a field, from one of the nouns that fit it and sometimes an adjective."""
    words = pick(rng, nouns).split()
    if chance(rng, 0.3):
        words = [pick(rng, _ADJECTIVES), *words]
    return styled(words, style)


def code(rng: np.random.Generator) -> str:
    """Return a short made-up code such as K7, 4821 or qax-3."""
    kind = rng.random()
    letters = "".join(chr(97 + int(rng.random() * 26)) for _ in range(between(rng, 1, 3)))
    number = between(rng, 0, 999)
    if kind < 0.35:
        return f"{letters.upper()}{number}"
    if kind < 0.6:
        return str(number * 10 + int(rng.random() * 10))
    if kind < 0.8:
        return f"{letters}-{number % 10}"
    return letters.upper()
