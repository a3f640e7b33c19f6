"""Gather what prompts are made of, and prove that nothing of the sealed test is in it."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from luthier.config.settings import CompareSettings
from luthier.core.errors import DataError
from luthier.core.rundir import RunDir
from luthier.data.knowledge import Document, read_documents
from luthier.data.store import read_stored
from luthier.verdict.asking import Sources
from luthier.verdict.questions import questions
from luthier.verdict.sealed import Sealed


def gathered(run: RunDir, settings: CompareSettings) -> Sources:
    """Read the training part, the user's prompts and knowledge; raise ProofFailed or DataError where they give test rows away."""
    prompts = tuple(read_prompt(Path(name)) for name in settings.prompts)
    documents = tuple(read_documents(Path(settings.knowledge))) if settings.knowledge else ()
    rows = list(read_stored(run.part("train")))
    proof = Sealed(list(read_stored(run.part("test")))).prove(rows, [*prompts, *documents])
    run.event("pool_proven", **proof)
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


class TokenCounter:
    """Counts the tokens of texts, of each once: examples and passages are weighed for every question."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        """Return the number of tokens."""
        if text not in self._known:
            self._known[text] = len(self._tokenizer.encode(text, add_special_tokens=False))
        return self._known[text]
