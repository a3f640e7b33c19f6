"""Content hashes and the integers that all randomness is counted from.

Randomness is counter-based: a generator is made anew from (seed, stream, counters), so there
is no state to save and nothing to restore on resume.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from luthier.core.types import JsonValue

_CHUNK = 1 << 20


def text_hash(text: str) -> str:
    """Return the SHA-256 of a text as 64 hex digits; lone surrogates are kept apart."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def bytes_hash(data: bytes) -> str:
    """Return the SHA-256 of bytes as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def json_hash(value: JsonValue) -> str:
    """Return the SHA-256 of a value's canonical JSON."""
    return text_hash(canonical_json(value))


def canonical_json(value: JsonValue) -> str:
    """Write JSON with sorted keys and no spaces, so that equal values are equal bytes."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def derived_seed(*parts: int | str) -> int:
    """Return a 63-bit integer that depends on every part: `derived_seed(seed, "order", epoch)`."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """Return a numpy generator that is a pure function of its parts."""
    return np.random.Generator(np.random.Philox(derived_seed(*parts)))
