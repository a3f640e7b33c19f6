"""Rewrite a text by a stated rule: put one word for another, drop one, sort, join, change letters or pronouns."""

import re
from collections.abc import Callable

import numpy as np

from luthier.core.types import JsonObject
from luthier.starter.draw import between, chance, fill, pick, some
from luthier.starter.rows import Pair, chat
from luthier.starter.source import Source, words_of

SHARE = 0.04
QUOTES_CORPUS = False

_HE_TO_SHE = {"he": "she", "He": "She", "him": "her", "Him": "Her", "his": "her", "His": "Her", "himself": "herself"}
_I_TO_WE = {"I": "we", "my": "our", "My": "Our", "me": "us", "am": "are", "myself": "ourselves"}


def example(rng: np.random.Generator, source: Source) -> JsonObject:
    """Pose a rule with the texts to rewrite: word lists for the rules of order, sentences for the others."""
    if chance(rng, 0.35):
        rule, change = pick(rng, _LIST_RULES)
        texts = [" ".join(some(rng, source.words, between(rng, 3, 7))) for _ in range(between(rng, 1, 4))]
    else:
        texts = [source.sentence(rng) for _ in range(between(rng, 1, 3))]
        rule, change = _sentence_rule(rng, source, texts)
    return chat(rng, fill(rng, "{||Rewrite. |Task: |Do this: }") + rule, [Pair(text, change(text)) for text in texts])


def _sentence_rule(rng: np.random.Generator, source: Source, texts: list[str]) -> tuple[str, Callable[[str], str]]:
    old = pick(rng, [word for text in texts for word in words_of(text)] or ["the"])
    new = source.word(rng)
    rules: tuple[tuple[str, Callable[[str], str]], ...] = (
        (f'{fill(rng, "{Replace|Exchange|Change}")} "{old}" by "{new}".', lambda text: _put(text, {old: new})),
        (f'Write "{new}" for "{old}".', lambda text: _put(text, {old: new})),
        (f'{fill(rng, "{Delete|Remove|Leave out|Drop}")} the word "{old}".', lambda text: _dropped(text, old)),
        ('Write "she" for "he", and so on.', lambda text: _put(text, _HE_TO_SHE)),
        ('Write "we" for "I", and so on.', lambda text: _put(text, _I_TO_WE)),
        ("Write everything in capitals.", str.upper),
        ("Use small letters only.", str.lower),
        (f'Add the word "{new}" at the end.', lambda text: f"{text} {new}"),
        (f'Begin with the word "{new}".', lambda text: f"{new} {text}"),
        ("Leave out the commas.", lambda text: text.replace(",", "")),
        ("Put the text in brackets.", lambda text: f"({text})"),
    )
    return pick(rng, rules)


def _put(text: str, swaps: dict[str, str]) -> str:
    return re.sub(r"[A-Za-z]+", lambda found: swaps.get(found[0], found[0]), text)


def _dropped(text: str, word: str) -> str:
    return re.sub(rf"\b{re.escape(word)}\b ?", "", text).strip()


_LIST_RULES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("Sort the words by the alphabet.", lambda text: " ".join(sorted(text.split()))),
    ("Reverse the order of the words.", lambda text: " ".join(reversed(text.split()))),
    ("Join the words with dashes.", lambda text: text.replace(" ", "-")),
    ("Put a comma between the words.", lambda text: text.replace(" ", ", ")),
    ("Write one word a line.", lambda text: text.replace(" ", "\n")),
    ("Write each word with a capital.", str.title),
    ("Write every word twice.", lambda text: " ".join(f"{word} {word}" for word in text.split())),
    ("Keep the first and the last word.", lambda text: f"{text.split()[0]} {text.split()[-1]}"),
    (
        "Swap the first and the last word.",
        lambda text: " ".join([text.split()[-1], *text.split()[1:-1], text.split()[0]]),
    ),
    ("Number the words.", lambda text: "\n".join(f"{n}. {word}" for n, word in enumerate(text.split(), start=1))),
)
