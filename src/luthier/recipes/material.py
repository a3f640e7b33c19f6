"""The material of a run's arms: what they make their prompts of, under this model's chat template and tokenizer."""

from luthier.core.types import Message
from luthier.data.problems import RowProblem
from luthier.recipes.job import Job
from luthier.recipes.prompt_sources import TokenCounter, gathered
from luthier.verdict.asking import Material


def material_of(job: Job) -> Material:
    """Return the material of a run's arms; it is read, and proven, when an arm first looks at it."""
    return Material(
        gather=lambda: gathered(job.run, job.settings.compare),
        settings=job.settings.compare,
        grader=job.grader_name,
        count_tokens=TokenCounter(job.tokenizer),
        seed=job.settings.seed,
        system_role=knows_system_role(job),
        trained_with=job.settings.train.retrieved,
    )


def knows_system_role(job: Job) -> bool:
    """Tell whether the chat template of the model knows system messages."""
    try:
        job.renderer.prompt([Message("system", "Be brief."), Message("user", "Hello")])
    except RowProblem:
        return False
    return True
