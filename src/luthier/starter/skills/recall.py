"""Quote a paragraph of a real text from given words on, or say a whole paragraph again."""

import numpy as np

from luthier.core.types import JsonObject
from luthier.starter.draw import between, chance, fill, pick
from luthier.starter.rows import row
from luthier.starter.source import Source

SHARE = 0.08
QUOTES_CORPUS = True


def example(rng: np.random.Generator, source: Source) -> JsonObject:
    """Give a paragraph and ask for its text from some words on, up to some words, or all of it."""
    passage = source.passage(rng)
    if chance(rng, 0.4):
        passage = f"{passage}\n{source.passage(rng)}"
    words = passage.split(" ")
    start = between(rng, 0, len(words) - 10)
    end = min(len(words), start + between(rng, 8, 60))
    phrase = " ".join(words[start : start + between(rng, 2, 4)])
    kind = rng.random()
    if kind < 0.6:
        asked = (
            fill(rng, "{Quote the text from|Go on from|Read from|Continue the text from|Start again at} ")
            + f'"{phrase}"'
        )
        asked += f" for {end - start} words." if chance(rng, 0.5) else f' up to "{" ".join(words[end - 2 : end])}".'
        answer = " ".join(words[start:end])
    elif kind < 0.8:
        answer = passage[: between(rng, 150, 400)].rsplit(" ", 1)[0]
        asked = f'Say the beginning again, up to "{" ".join(answer.split(" ")[-2:])}".'
    else:
        asked = fill(rng, "{Repeat the whole text.|Say all of it again.|Copy the paragraph.|Quote it in full.}")
        answer = passage
    if pick(rng, (True, False)):
        return row(rng, [("system", passage), ("user", asked), ("assistant", answer)])
    first, second = (asked, passage) if chance(rng, 0.4) else (passage, asked)
    return row(rng, [("user", f"{first}\n\n{second}"), ("assistant", answer)])
