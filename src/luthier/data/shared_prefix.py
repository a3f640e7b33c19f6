"""How much of a data set's text is said only once when rows that begin alike share their beginning.

The trie of all rows holds every distinct beginning once. Its size is estimated in a stream: the beginnings
of a row, one every 64 bytes, are hashed, and only hashes below a limit are kept. When they become too
many the limit is halved (Flajolet 1990, "On adaptive sampling"), so a million rows take a few megabytes.
"""

import hashlib

_BLOCK_BYTES = 64
_MOST_BLOCKS = 1024
_MOST_KEPT = 1 << 15
_HASH_BITS = 64


class SharedPrefix:
    """Counts all blocks and estimates the distinct ones; the error is about 1 % (one standard deviation)."""

    def __init__(self) -> None:
        self._num_blocks = 0
        self._num_apart = 0
        self._limit = 1 << _HASH_BITS
        self._kept: set[int] = set()

    def add(self, text: str) -> None:
        """Count a sequence; only its beginning decides what it shares."""
        data = text.encode("utf-8", "surrogatepass")
        # Rows that begin alike for longer than this are copies; what they share further on is not looked at.
        beyond = max(0, -(-len(data) // _BLOCK_BYTES) - _MOST_BLOCKS)
        self._num_blocks += beyond
        self._num_apart += beyond
        data = data[: _MOST_BLOCKS * _BLOCK_BYTES]
        running = hashlib.blake2b(digest_size=_HASH_BITS // 8)
        for start in range(0, len(data), _BLOCK_BYTES):
            running.update(data[start : start + _BLOCK_BYTES])
            self._count(int.from_bytes(running.copy().digest(), "big"))

    @property
    def ratio(self) -> float:
        """How many times longer all rows are than their trie; 1 where none share a beginning."""
        distinct = self._num_apart + len(self._kept) * (1 << _HASH_BITS) / self._limit
        return max(1.0, self._num_blocks / distinct) if distinct else 1.0

    def _count(self, beginning: int) -> None:
        self._num_blocks += 1
        if beginning >= self._limit:
            return
        self._kept.add(beginning)
        while len(self._kept) > _MOST_KEPT:
            self._limit //= 2
            self._kept = {one for one in self._kept if one < self._limit}
