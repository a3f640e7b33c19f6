"""Keys and values of prompts that were seen, in pieces of 16 tokens, so that shared beginnings are computed once.

A piece is known by its own tokens and all before them, under the weights that computed it. Pieces that were not used
for longest go first; of one prompt the last pieces go before the first.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

PIECE = 16
Piece = tuple[torch.Tensor, ...]


class PrefixCache:
    """Pieces of prompts up to a number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._pieces: OrderedDict[bytes, Piece] = OrderedDict()
        self.num_bytes = 0

    def match(self, weights: str, tokens: Sequence[int]) -> list[Piece]:
        """Return the pieces of the longest known beginning, at least one token short of the whole prompt."""
        known: list[bytes] = []
        for key in _keys(weights, tokens[:-1]):
            if key not in self._pieces:
                break
            known.append(key)
        for key in reversed(known):
            self._pieces.move_to_end(key)
        return [self._pieces[key] for key in known]

    def store(self, weights: str, tokens: Sequence[int], read: Callable[[int, int], Piece]) -> None:
        """Keep the prompt's whole pieces; `read(start, end)` gives the states of a stretch that is not known yet."""
        keys = list(_keys(weights, tokens))
        for place in range(len(keys) - 1, -1, -1):
            if keys[place] in self._pieces:
                self._pieces.move_to_end(keys[place])
            elif self._limit:
                self._pieces[keys[place]] = piece = read(place * PIECE, (place + 1) * PIECE)
                self.num_bytes += _size(piece)
        while self.num_bytes > self._limit:
            _, piece = self._pieces.popitem(last=False)
            self.num_bytes -= _size(piece)


def _keys(weights: str, tokens: Sequence[int]) -> Iterator[bytes]:
    key = weights.encode()
    for start in range(0, len(tokens) - PIECE + 1, PIECE):
        own = np.asarray(tokens[start : start + PIECE], dtype=np.int64).tobytes()
        key = hashlib.blake2b(key + b"\0" + own, digest_size=16).digest()
        yield key


def _size(piece: Piece) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in piece)
