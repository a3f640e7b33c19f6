"""An even sample of a stream of rows, the same for the same rows whatever their order."""

import hashlib
from typing import Generic, TypeVar

_Kept = TypeVar("_Kept")
_BITS = 64


class Sampled(Generic[_Kept]):
    """Keeps what belongs to ids whose hash is below a limit; when there are more than `most` the limit is halved."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = 1 << _BITS
        self._kept: dict[int, _Kept] = {}

    def wants(self, id: str) -> bool:
        """Tell whether a row with this id would be kept, so that what is kept need not be made for all."""
        return _hash(id) < self._limit

    def add(self, id: str, value: _Kept) -> None:
        """Offer a value."""
        key = _hash(id)
        if key >= self._limit:
            return
        self._kept[key] = value
        while len(self._kept) > self._most:
            self._limit //= 2
            self._kept = {key: kept for key, kept in self._kept.items() if key < self._limit}

    @property
    def values(self) -> list[_Kept]:
        """What was kept, in the order of the stream."""
        return list(self._kept.values())

    @property
    def share(self) -> float:
        """The share of the rows that is kept."""
        return self._limit / (1 << _BITS)


def _hash(id: str) -> int:
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=_BITS // 8).digest(), "big")
