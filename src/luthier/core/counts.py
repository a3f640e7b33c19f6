"""Hits, predictions and wanted items: what precision, recall and F1 are made of."""

from typing import NamedTuple

from luthier.core.types import JsonValue


class Counts(NamedTuple):
    """How many items were predicted, how many were wanted, and how many of both were the same."""

    hits: int = 0
    predicted: int = 0
    wanted: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """Return the sum, count by count."""
        return Counts(self.hits + other.hits, self.predicted + other.predicted, self.wanted + other.wanted)

    @property
    def precision(self) -> float:
        """The share of the predicted items that were wanted; 0 when none was predicted."""
        return self.hits / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """The share of the wanted items that were predicted; 0 when none was wanted."""
        return self.hits / self.wanted if self.wanted else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 when there was nothing on either side."""
        both = self.predicted + self.wanted
        return 2 * self.hits / both if both else 0.0

    def as_metrics(self) -> dict[str, JsonValue]:
        """Return precision, recall, F1 and the number of wanted items, as reports name them."""
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1, "support": self.wanted}
