"""How the generator lays a task out as a chat: where the instruction stands, one input or many, examples or none.

Every layout ends in an assistant turn that is trained. The turns that only pose the task carry
weight 0 in four rows of five: they are noise that nobody should learn to write.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from luthier.core.types import JsonObject, JsonValue
from luthier.starter.draw import chance, pick

_TRAIN_EVERY_TURN = 0.2
_MARKS = (
    ("Input: ", "Output: "),
    ("Text: ", "Answer: "),
    ("Q: ", "A: "),
    ("Text: ", "Label: "),
    ("Message: ", "Result: "),
    ("Sentence: ", "Output: "),
    ("In: ", "Out: "),
    ("Example: ", "Solution: "),
    ("> ", "= "),
    ("User: ", "Reply: "),
)
_LEADS = ("Examples:", "Here are some examples.", "For example:", "Some solved cases:", "See how it is done:", "")


class Pair(NamedTuple):
    """One input of a task and the wanted answer."""

    text: str
    answer: str


def chat(rng: np.random.Generator, instruction: str, pairs: Sequence[Pair]) -> JsonObject:
    """Pose one or more inputs of a task, one a turn; the instruction stands in the system turn or in the first."""
    if chance(rng, 0.5):
        turns = [("system", instruction), *_dialogue(pairs)]
    else:
        first = _joined(rng, instruction, pairs[0].text)
        turns = _dialogue([Pair(first, pairs[0].answer), *pairs[1:]])
    return row(rng, turns)


def shown(rng: np.random.Generator, instruction: str, shots: Sequence[Pair], last: Pair) -> JsonObject:
    """Pose one input behind solved examples: all in one turn, examples in the system turn, or as earlier turns."""
    layout = rng.random()
    if layout < 0.4:
        turns = _dialogue([*shots, last])
        return row(rng, [("system", instruction), *turns] if instruction and chance(rng, 0.7) else turns)
    before, after = pick(rng, _MARKS)
    gap = pick(rng, ("\n", "\n\n"))
    block = gap.join(f"{before}{shot.text}\n{after}{shot.answer}" for shot in shots)
    lead = "\n".join(part for part in (instruction, pick(rng, _LEADS), block) if part)
    if layout < 0.7:
        asked = last.text if chance(rng, 0.6) else f"{before}{last.text}"
        return row(rng, [("system", lead), ("user", asked), ("assistant", last.answer)])
    asked = f"{lead}{gap}{before}{last.text}\n{after}".rstrip()
    return row(rng, [("user", asked), ("assistant", last.answer)])


def row(rng: np.random.Generator, turns: Sequence[tuple[str, str]]) -> JsonObject:
    """Write turns as a row; the turns that are not the assistant's mostly get weight 0."""
    every = chance(rng, _TRAIN_EVERY_TURN)
    messages: list[JsonValue] = []
    for role, content in turns:
        message: JsonObject = {"role": role, "content": content}
        if role != "assistant" and not every:
            message["weight"] = 0
        messages.append(message)
    return {"messages": messages}


def _dialogue(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    return [turn for text, answer in pairs for turn in (("user", text), ("assistant", answer))]


def _joined(rng: np.random.Generator, instruction: str, text: str) -> str:
    kind = rng.random()
    if kind < 0.45:
        return f"{instruction}\n\n{text}"
    if kind < 0.65:
        return f"{instruction}\n{text}"
    if kind < 0.8:
        return f"{text}\n\n{instruction}"
    return f"{instruction}\n\n{pick(rng, ('Text', 'Input', 'Message', 'Here it is'))}: {text}"
