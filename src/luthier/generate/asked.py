"""What is asked of a model: a prompt, and the adapter that answers it."""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.generate.prefix import PIECE


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and the adapter that answers it."""

    tokens: tuple[int, ...]
    adapter: str | None


def run_first(asked: Sequence[Asked]) -> bool:
    """Whether others would find a piece of the first prompt known, once it has run."""
    return any(
        one.adapter == asked[0].adapter and one.tokens[:PIECE] == asked[0].tokens[:PIECE] and len(one.tokens) > PIECE
        for one in asked[1:]
    )
