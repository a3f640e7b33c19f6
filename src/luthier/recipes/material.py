"""Gather what the arms make their prompts of, and prove that nothing of the sealed test is in it."""

from pathlib import Path

from luthier.core.errors import DataError
from luthier.core.types import Message
from luthier.data.knowledge import Document, read_documents
from luthier.data.problems import RowProblem
from luthier.recipes.answerers import TokenCounter
from luthier.recipes.job import Job
from luthier.verdict.asking import Material, Sources
from luthier.verdict.questions import questions
from luthier.verdict.sealed import Sealed


def material_of(job: Job) -> Material:
    """Return the material of a run's arms; it is read, and proven, when an arm first looks at it."""
    return Material(
        gather=lambda: _gathered(job),
        settings=job.settings.compare,
        grader=job.grader_name,
        count_tokens=TokenCounter(job),
        seed=job.settings.seed,
        system_role=knows_system_role(job),
    )


def _gathered(job: Job) -> Sources:
    settings = job.settings.compare
    prompts = tuple(read_prompt(Path(name)) for name in settings.prompts)
    documents = tuple(read_documents(Path(settings.knowledge))) if settings.knowledge else ()
    rows = job.rows("train")
    proof = Sealed(job.rows("test")).prove(rows, [*prompts, *documents])
    job.run.event("pool_proven", **proof)
    return Sources(tuple(questions(rows)), prompts, documents)


def read_prompt(path: Path) -> Document:
    """Read a file with a system prompt; raise DataError where it is missing, empty or no text."""
    if not path.is_file():
        raise DataError(f"there is no file {path} to take a prompt from.")
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text, so it cannot be a prompt.") from error
    if not text:
        raise DataError(f"{path} is empty; write the system prompt into it.")
    return Document(path.name, text)


def knows_system_role(job: Job) -> bool:
    """Tell whether the chat template of the model knows system messages."""
    try:
        job.renderer.prompt([Message("system", "Be brief."), Message("user", "Hello")])
    except RowProblem:
        return False
    return True
