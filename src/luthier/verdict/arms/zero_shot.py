"""The base model, untuned, asked as the rows stand."""

from luthier.verdict.asking import AS_THE_ROWS_STAND, Candidate, Material


class Arm:
    """Asks the base model the row's own messages."""

    weights = "base"
    description = "the base model, untuned, asked as the rows stand"

    def candidates(self, material: Material) -> list[Candidate]:
        """Return the one way of asking."""
        return [AS_THE_ROWS_STAND]
