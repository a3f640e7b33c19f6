"""Answer from a passage of made-up facts about people: one is asked, in other words than it was told."""

import numpy as np

from luthier.core.types import JsonObject
from luthier.starter.draw import between, chance, fill, pick, shuffled, some
from luthier.starter.rows import Pair, chat
from luthier.starter.source import Source

SHARE = 0.05
QUOTES_CORPUS = False

# Each fact: ways to tell it of a person, and ways to ask for it.
_FACTS = (
    (("{} lives in [].", "The home of {} is [].", "{} has a house in []."), ("Where does {} live?", "Where is the home of {}?"), "name"),
    (("{} comes from [].", "{} was born in []."), ("Where was {} born?", "Where does {} come from?"), "name"),
    (("{} works with [].", "Every day {} meets []."), ("Who works with {}?", "With whom does {} work?"), "name"),
    (("{} is [] years old.", "{} turned [] this year."), ("How old is {}?", "What is the age of {}?"), "age"),
    (("{} owns a [].", "There is a [] that belongs to {}."), ("What does {} own?", "What belongs to {}?"), "word"),
    (("{} always talks about []. ", "{} cares most about []."), ("What does {} talk about?", "What does {} care about?"), "span"),
    (("The number of {} is [].", "{} has the number []."), ("What is the number of {}?", "Which number has {}?"), "number"),
    (("{} said \"[]\".", "\"[]\", said {}."), ("What did {} say?", "What were the words of {}?"), "span"),
    (("{} leaves on [].", "On [], {} will go away."), ("When does {} leave?", "When will {} go away?"), "day"),
    (("{} lost the [].", "The [] was lost by {}."), ("What did {} lose?", "What was lost by {}?"), "word"),
)  # fmt: skip


def example(rng: np.random.Generator, source: Source) -> JsonObject:
    """Tell three to eight facts and ask for one to four of them."""
    people = list(dict.fromkeys(source.name(rng) for _ in range(between(rng, 2, 4))))
    told: list[str] = []
    asked: list[Pair] = []
    for tells, asks, kind in some(rng, _FACTS, between(rng, 2, 5)):
        for person in some(rng, people, between(rng, 1, 2)):
            value = _value(rng, source, kind)
            told.append(pick(rng, tells).replace("{}", person).replace("[]", value).strip())
            asked.append(Pair(pick(rng, asks).replace("{}", person), value))
    if chance(rng, 0.4):
        told.insert(between(rng, 0, len(told)), source.sentence(rng))
    passage = pick(rng, (" ", " ", "\n")).join(shuffled(rng, told))
    pairs = some(rng, asked, between(rng, 1, 4))
    if chance(rng, 0.15):
        stranger = next((name for name in iter(lambda: source.name(rng), "") if name not in people), "")
        unknown = fill(rng, "{unknown|not said|The text does not say.|I don't know}")
        passage += f'\n{fill(rng, "{If the answer is not there, say|When it is not in the text, write}")} "{unknown}".'
        pairs.append(Pair(f"How old is {stranger}?", unknown))
        pairs = shuffled(rng, pairs)
    return chat(rng, passage, pairs)


def _value(rng: np.random.Generator, source: Source, kind: str) -> str:
    if kind == "name":
        return source.name(rng)
    if kind == "word":
        return source.word(rng)
    if kind == "span":
        return source.span(rng, 2, 6)
    if kind == "age":
        return str(between(rng, 5, 99))
    if kind == "day":
        return fill(rng, "{Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday}")
    return str(between(rng, 100, 9999))
