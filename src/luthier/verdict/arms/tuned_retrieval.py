"""The tuned model with passages that belong to the question before it."""

from luthier.verdict import retrieval
from luthier.verdict.asking import Candidate, Material


class Arm:
    """Asks the tuned model with passages from the training rows and the user's knowledge."""

    weights = "tuned"
    description = "the tuned model with retrieved passages before the question"

    def candidates(self, material: Material) -> list[Candidate]:
        """Return one way of asking for each source and number of passages; that of the training, where it had any, first."""
        if material.trained_with:
            return retrieval.as_trained_first(material, material.trained_with)
        return retrieval.candidates(material)
