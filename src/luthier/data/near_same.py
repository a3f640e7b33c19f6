"""When do two questions ask the same, though they are not written the same?

Words that change nothing (articles, greetings, politeness) and the plural's ending may differ, and nothing else:
a number, a negation, a name or a preposition makes another question, however alike the texts are as a whole.
"""

from luthier.data.normal import normalized

_IDLE = frozenset(
    "a an the please kindly hi hello hey thanks ok okay well so just really very actually um uh there "
    "bitte hallo danke doch mal s il vous plait bonjour merci por favor hola gracias".split()
)
_FEWEST_WORDS = 3
_LEAST_SHARE = 0.5
_SHORTEST_PLURAL = 4


def near_key(question: str) -> str:
    """Return a text that is equal for questions that differ in idle words only.

    A question of which less than three words or half would be left is only the same as itself, normalized.
    """
    text = normalized(question)
    kept = _matter(text)
    enough = len(kept) >= _FEWEST_WORDS and len(kept) >= _LEAST_SHARE * (text.count(" ") + 1)
    return " ".join(kept) if enough else text


def value_key(value: str) -> str:
    """Return a text that is equal for values cut out of questions with equal keys, and never empty for words."""
    text = normalized(value)
    return " ".join(_matter(text)) or text


def _matter(text: str) -> list[str]:
    return [_singular(word) for word in text.split() if word not in _IDLE]


def _singular(word: str) -> str:
    plural = len(word) >= _SHORTEST_PLURAL and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if plural and word.isalpha() else word
