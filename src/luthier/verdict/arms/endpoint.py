"""A model behind an OpenAI-compatible address: a hosted large model with a long prompt, or the one in use today."""

from luthier.verdict import retrieval, written_prompts
from luthier.verdict.asking import AS_THE_ROWS_STAND, Candidate, Material
from luthier.verdict.examples import nearest

_PASSAGES = (3,)


class Arm:
    """Asks the model at `compare.endpoint.url`, in every way that the other arms ask."""

    weights = "endpoint"
    description = "the model behind the endpoint"

    def candidates(self, material: Material) -> list[Candidate]:
        """Return the rows as they stand, under prompts, behind near examples and, given knowledge, with passages."""
        given = [written_prompts.prompted(file.name, file.text, material) for file in material.sources.prompts]
        examples = nearest(material)[-1:] if material.examples else []
        passages = retrieval.candidates(material, _PASSAGES) if material.sources.documents else []
        return [*given, AS_THE_ROWS_STAND, *written_prompts.candidates(material), *examples, *passages]
