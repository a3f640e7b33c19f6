"""Rendered sequences on disk, so that a resumed training need not render its rows again.

One safetensors file: tokens in the smallest unsigned type that holds them, target weights as numbers into a table of
those that occur, lengths, and the rows' ids as text. It is derived: a file that is missing, broken or made from other rows or
settings is made again.
"""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from luthier.core.rundir import write_atomically
from luthier.data.loader import SequenceStore

_MOST_WEIGHTS = 256
_PIECE = 1 << 22


def write(path: Path, store: SequenceStore, made_from: str) -> None:
    """Write all sequences of `store`; `made_from` names everything that they depend on."""
    tokens, weights = store.flat()
    table = np.unique(weights)
    small = np.uint16 if tokens.max(initial=0) < 1 << 16 else np.uint32
    kept = {
        "tokens": tokens.astype(small), "lengths": store.lengths.astype(np.uint32), "num_own": np.array([store.num_own]),
        "rows": np.frombuffer("\n".join(store.rows).encode(), dtype=np.uint8),
    }  # fmt: skip
    if len(table) <= _MOST_WEIGHTS:
        kept |= {"weight_table": table, "weight_numbers": _numbers(weights, table)}
    else:
        kept["weights"] = weights
    write_atomically(path, save(kept, metadata={"made_from": made_from}))


def read(path: Path, made_from: str) -> SequenceStore | None:
    """Return the sequences of a file that was made from the same, or None."""
    try:
        with safe_open(path, framework="numpy") as file:
            if file.metadata().get("made_from") != made_from:
                return None
            names = set(file.keys())
            kept = {name: file.get_tensor(name) for name in names}
    except (FileNotFoundError, SafetensorError):
        return None
    weights = kept["weights"] if "weights" in names else kept["weight_table"][kept["weight_numbers"]]
    rows = kept["rows"].tobytes().decode().split("\n")
    return SequenceStore.of(rows, kept["lengths"], kept["tokens"], weights, int(kept["num_own"][0]))


def _numbers(weights: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the place of each weight in the table, a piece at a time: as 64-bit numbers all places would take twice what the weights do."""
    out = np.empty(len(weights), dtype=np.uint8)
    for start in range(0, len(weights), _PIECE):
        piece = slice(start, start + _PIECE)
        out[piece] = np.searchsorted(table, weights[piece])
    return out
