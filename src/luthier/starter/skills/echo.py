"""Say a list of words again, without being told to: the plainest copy there is.

This is where copying begins. A first training on these rows alone makes a small model find the
attention that copies ("induction heads", Olsson et al. 2022, arXiv 2209.11895) within half a million
tokens; in a mixture of everything it had not found it after twelve million.
"""

import numpy as np

from luthier.core.types import JsonObject
from luthier.starter.draw import between, common, pick
from luthier.starter.source import Source

SHARE = 0.06
QUOTES_CORPUS = False


def example(rng: np.random.Generator, source: Source) -> JsonObject:
    """Show two to twelve words, mostly from few, and answer with the same words."""
    words = common(rng, common(rng, source.words))
    text = " ".join(pick(rng, words) for _ in range(between(rng, 2, 12)))
    return {"messages": [{"role": "user", "content": text, "weight": 0}, {"role": "assistant", "content": text}]}
