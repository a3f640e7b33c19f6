"""Continue shown examples of a made-up mapping: a change of form, a fixed partner, something put around."""

from collections.abc import Callable

import numpy as np

from luthier.core.types import JsonObject
from luthier.starter import names
from luthier.starter.draw import between, chance, fill, pick
from luthier.starter.rows import Pair, row, shown
from luthier.starter.source import Source

SHARE = 0.05
QUOTES_CORPUS = False


def example(rng: np.random.Generator, source: Source) -> JsonObject:
    """Show three to eight pairs of a mapping and ask for one more."""
    change = _mapping(rng, source)
    texts = list(dict.fromkeys(_text(rng, source) for _ in range(between(rng, 3, 8))))
    pairs = [Pair(text, change(text)) for text in texts]
    if chance(rng, 0.5):
        mark = pick(rng, (" -> ", ": ", " = ", " => ", " | "))
        lines = "\n".join(f"{pair.text}{mark}{pair.answer}" for pair in pairs[:-1])
        return row(rng, [("user", f"{lines}\n{pairs[-1].text}{mark}".rstrip()), ("assistant", pairs[-1].answer)])
    return shown(rng, fill(rng, "{|Continue.|Follow the pattern.|Do the same.}"), pairs[:-1], pairs[-1])


def _text(rng: np.random.Generator, source: Source) -> str:
    kind = rng.random()
    if kind < 0.4:
        return source.span(rng, 2, 5)
    if kind < 0.7:
        return " ".join(source.word(rng) for _ in range(between(rng, 2, 3)))
    return f"{source.name(rng)} {source.name(rng)}"


def _mapping(rng: np.random.Generator, source: Source) -> Callable[[str], str]:
    word, code = source.word(rng), names.code(rng)
    left, right = pick(rng, (("(", ")"), ("[", "]"), ('"', '"'), ("<", ">"), ("*", "*"), ("{", "}")))
    joint = pick(rng, ("-", "_", ", ", "/", "+", " and "))
    changes: tuple[Callable[[str], str], ...] = (
        str.upper,
        str.title,
        str.lower,
        lambda text: " ".join(reversed(text.split())),
        lambda text: text.split()[0],
        lambda text: text.split()[-1],
        lambda text: "".join(part[0] for part in text.split()),
        lambda text: f"{text} {word}",
        lambda text: f"{word} {text}",
        lambda text: f"{code}: {text}",
        lambda text: f"{left}{text}{right}",
        lambda text: joint.join(text.split()),
        lambda text: f"{text} {text}",
        lambda text: str(len(text.split())),
        lambda text: f"{text.split()[0]} {word} {text.split()[-1]}",
        lambda text: " ".join([text.split()[-1], *text.split()[1:-1], text.split()[0]]),
    )
    return pick(rng, changes)
