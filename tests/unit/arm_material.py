"""Material for arms, from a few training rows that are written here."""

from luthier.config.settings import CompareSettings
from luthier.core.types import Conversation, Message, Row
from luthier.data.knowledge import Document
from luthier.verdict.asking import Material, Sources
from luthier.verdict.questions import Question, questions

PAIRS = [
    ("Which river runs through Vienna?", "the Danube"),
    ("Which river runs through Cologne?", "the Rhine"),
    ("How high is Mont Blanc?", "4806 metres"),
    ("How warm is the sun inside?", "15 million degrees"),
    ("Who wrote the opera Fidelio?", "Beethoven"),
]


def row(number: int, question: str, answer: str, system: str | None = None) -> Row:
    """A row of the file `rows.jsonl` with one question and one answer."""
    head = (Message("system", system),) if system else ()
    turns = (*head, Message("user", question), Message("assistant", answer))
    return Row(f"row-{number}", "rows.jsonl", number, number, Conversation(turns))


def question(text: str, answer: str = "", system: str | None = None) -> Question:
    """A question as it is asked of an arm."""
    (asked,) = questions([row(99, text, answer, system)])
    return asked


def material(
    pairs: list[tuple[str, str]] | None = None,
    *,
    prompts: dict[str, str] | None = None,
    knowledge: dict[str, str] | None = None,
    grader: str = "exact",
    system_role: bool = True,
    **settings: object,
) -> Material:
    """What arms make prompts of; a token is a word."""
    pool = tuple(questions([row(number, *pair) for number, pair in enumerate(pairs or PAIRS, start=1)]))
    texts = [tuple(Document(*one) for one in (given or {}).items()) for given in (prompts, knowledge)]
    return Material(
        gather=lambda: Sources(pool, *texts),
        settings=CompareSettings(**settings),  # type: ignore[arg-type]
        grader=grader,
        count_tokens=lambda text: len(text.split()),
        system_role=system_role,
    )
