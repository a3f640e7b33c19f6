"""Say a text again, without being told to: the plainest copy there is.

This is where copying begins. A first training on these rows alone makes a small model find the
attention that copies ("induction heads", Olsson et al. 2022, arXiv 2209.11895) within half a million
tokens; in a mixture of everything it had not found it after twelve million. Lists of common words
teach it first, rare words, codes and sentences make it general.
"""

import numpy as np

from luthier.core.types import JsonObject
from luthier.starter import names
from luthier.starter.draw import between, common, pick
from luthier.starter.source import Source

SHARE = 0.06
QUOTES_CORPUS = False


def example(rng: np.random.Generator, source: Source) -> JsonObject:
    """Show a list of words, mostly from few, or a piece of real text, and answer with the same."""
    text = _text(rng, source)
    return {"messages": [{"role": "user", "content": text, "weight": 0}, {"role": "assistant", "content": text}]}


def _text(rng: np.random.Generator, source: Source) -> str:
    kind = rng.random()
    if kind < 0.3:
        words = common(rng, common(rng, source.words))
        return " ".join(pick(rng, words) for _ in range(between(rng, 2, 12)))
    if kind < 0.7:
        return " ".join(_atom(rng, source) for _ in range(between(rng, 2, 16)))
    if kind < 0.85:
        return source.span(rng, 2, 12)
    return source.utterance(rng) if kind < 0.95 else source.sentence(rng)


def _atom(rng: np.random.Generator, source: Source) -> str:
    kind = rng.random()
    if kind < 0.45:
        return pick(rng, source.words)
    if kind < 0.7:
        return source.invented(rng)
    return source.name(rng) if kind < 0.85 else names.code(rng)
