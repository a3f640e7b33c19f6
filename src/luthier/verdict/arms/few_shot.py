"""The base model with solved examples from the training rows before the question."""

from luthier.verdict.asking import Candidate, Material
from luthier.verdict.examples import diverse, fixed, nearest, shown_first


class Arm:
    """Asks the base model behind examples: the same for every question, or those nearest to it."""

    weights = "base"
    description = "the base model, untuned, with examples from the training rows before the question"

    def candidates(self, material: Material) -> list[Candidate]:
        """Return the strategies, each with several numbers of examples; those that show the same are proposed once."""
        found: list[Candidate] = []
        for strategy, order in (("fixed", fixed(material)), ("diverse", diverse(material))):
            found += shown_first(material, strategy, order)
        return found + nearest(material)
