"""A map of what is asked: regions of like questions as spots in the plane, each with the rows that lie in it.

Made by a check from a sample of the rows, kept with its findings, drawn by the report. Like regions lie near each
other; the axes mean nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from luthier.core.types import JsonObject, JsonValue

HIDDEN = "(holds private data)"


@dataclass(frozen=True, slots=True)
class Spot:
    """One region: its most telling words, the ids of its sampled rows, and the question of one of them, `shown`."""

    words: str
    x: float
    y: float
    rows: tuple[str, ...]
    example: str
    shown: str


@dataclass(frozen=True, slots=True)
class ClusterMap:
    """All regions, and the share of the training rows that the sample holds."""

    spots: tuple[Spot, ...]
    share: float

    @property
    def num_rows(self) -> int:
        """How many rows were sampled."""
        return sum(len(spot.rows) for spot in self.spots)

    def without(self, ids: Iterable[str]) -> "ClusterMap":
        """Return the map without the words of these rows."""
        hidden = set(ids)
        spots = (replace(spot, shown=HIDDEN) if spot.example in hidden else spot for spot in self.spots)
        return replace(self, spots=tuple(spots))

    def as_json(self) -> JsonObject:
        """Return the map for a file."""
        spots: list[JsonValue] = [
            [spot.words, spot.x, spot.y, [*spot.rows], spot.example, spot.shown] for spot in self.spots
        ]
        return {"share": self.share, "spots": spots}


def cluster_map_from_json(value: JsonObject) -> ClusterMap:
    """Return the map that `as_json` wrote; raise KeyError or TypeError where the value is none."""
    drawn: dict[str, Any] = value
    spots = [Spot(words, x, y, tuple(rows), example, shown) for words, x, y, rows, example, shown in drawn["spots"]]
    return ClusterMap(tuple(spots), drawn["share"])
