"""The argument that takes a model's cache, by the name that the installed transformers has for it.

Goes when the package needs a transformers of 5.24 or newer, where it is `cache`; before, it was `past_key_values`.
"""

import inspect

from transformers import Cache
from transformers.masking_utils import create_causal_mask

_NAME = "cache" if "cache" in inspect.signature(create_causal_mask).parameters else "past_key_values"


def with_cache(cache: Cache) -> dict[str, Cache]:
    """Return the keyword argument that hands a cache to a model's forward pass."""
    return {_NAME: cache}
