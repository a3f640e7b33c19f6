"""The base model under the best of several system prompts: the user's own, and those written from the training rows."""

from luthier.verdict import written_prompts
from luthier.verdict.asking import AS_THE_ROWS_STAND, Candidate, Material


class Arm:
    """Asks the base model under a system prompt."""

    weights = "base"
    description = "the base model, untuned, under a system prompt"

    def candidates(self, material: Material) -> list[Candidate]:
        """Return one way of asking for each prompt; rows with prompts of their own are also asked under those."""
        own = any(message.role == "system" for one in material.pool for message in one.messages)
        given = [written_prompts.prompted(file.name, file.text, material) for file in material.sources.prompts]
        return [*given, *([AS_THE_ROWS_STAND] if own else []), *written_prompts.candidates(material)]
