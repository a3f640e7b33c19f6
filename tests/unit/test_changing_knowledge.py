"""Answers that change with the knowledge: what was learned from last year's rows is wrong, and retrieval must win.

A shop's prices stand in its handbook. The training rows hold last year's, the test asks for this year's. The language models are
played by rules that keep to what such models can do: the base model reads a price where its prompt holds one, the tuned model
says what it learned of the item, and with retrieval reads first. Everything else is real: the index, the prompts, the classical
arm, the grader, the statistics and the rules.
"""

import re
from collections.abc import Sequence

import numpy as np
from arm_material import material, question
from verdicts import differences_between, summary

from luthier.core.types import Message
from luthier.graders import exact
from luthier.verdict.arms import classical, retrieval
from luthier.verdict.conclude import Circumstances, Conclusion, conclude
from luthier.verdict.figures import scale_of

KINDS = (
    "bell",
    "brake",
    "chain",
    "frame",
    "helmet",
    "lamp",
    "lock",
    "mirror",
    "pedal",
    "pump",
    "saddle",
    "tyre",
    "wheel",
)
MAKES = ("Alba", "Brun", "Corso", "Delta", "Elba", "Fjord", "Garda", "Havel", "Isar", "Jura", "Kiel", "Loire")
ITEMS = [f"{make} {kind}" for make in MAKES for kind in KINDS]
ASKED = ("What is the price of the {}?", "How much does the {} cost?")


def prices(year: int) -> dict[str, str]:
    """Every item has another price every year."""
    return {item: f"{10 + (7 * place + 31 * year) % 90} euro" for place, item in enumerate(ITEMS)}


def read(messages: Sequence[Message], item: str) -> str:
    """Return the price that a prompt states of an item, or nothing."""
    said = " ".join(message.content for message in messages)
    found = re.search(rf"{re.escape(item)} is (\d+ euro)", said)
    return found[1] if found else ""


def judged(asked_year: int, learned_year: int, handbook_year: int) -> Conclusion:
    learned, handbook, wanted = prices(learned_year), prices(handbook_year), prices(asked_year)
    pairs = [(words.format(item), learned[item]) for item in ITEMS for words in ASKED]
    text = "\n\n".join(f"The price of the {item} is {price}." for item, price in handbook.items())
    around = material(pairs, knowledge={"handbook.md": text})
    by_knowledge = next(
        one for one in retrieval.Arm().candidates(around) if "the knowledge" in one.name and "3" in one.name
    )
    asked = [(item, question(f"Please tell me the price of the {item}.", wanted[item])) for item in ITEMS]
    arm = classical.Arm(pairs, [], "exact", 0)
    found = {item: read(by_knowledge.ask(one, 512), item) for item, one in asked}
    answers = {
        "classical": arm.answer([one.text for _, one in asked]),
        "zero_shot": [read(one.messages, item) for item, one in asked],
        "retrieval": [found[item] for item, _ in asked],
        "tuned": [learned[item] for item, _ in asked],
        "tuned_retrieval": [found[item] or learned[item] for item, _ in asked],
    }
    grader = exact.Grader()
    scores = {
        name: np.array(
            [grader.grade(one.text, said, one.wanted).score for said, (_, one) in zip(of_arm, asked, strict=True)]
        )
        for name, of_arm in answers.items()
    }
    about = Circumstances(scale_of("exact", False), len(asked), 0.02)
    return conclude({name: summary(one) for name, one in scores.items()}, differences_between(scores, 0.02), about)


def test_where_the_answers_change_with_the_knowledge_retrieval_wins():
    end = judged(asked_year=2026, learned_year=2025, handbook_year=2026)
    assert end.outcome == "use retrieval", end.because
    assert "so use retrieval" in end.because
    assert end.next.startswith("Search the training rows or your knowledge")


def test_where_the_handbook_is_old_and_the_rows_are_new_tuning_wins():
    """The same shop the other way round: it is the knowledge that decides, not the arm's name."""
    end = judged(asked_year=2026, learned_year=2026, handbook_year=2025)
    assert end.outcome != "use retrieval", end.because
