"""What the generator takes from real text: words, names, sentences, utterances, passages and spans.

A source is made once from documents and then only drawn from, so a skill needs no other input
than it and a random generator.
"""

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from luthier.core.errors import DataError
from luthier.core.types import JsonObject
from luthier.starter.corpus import texts
from luthier.starter.draw import between, chance, common, pick

_WORD = re.compile(r"\b[A-Za-z][a-z]+\b")
_LOWER = re.compile(r"\b[a-z]{3,}\b")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"])")
_MID_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b")
_PASSAGE_CHARS = (250, 800)
_TOPIC_UTTERANCES = (6, 300)
_COMMON_WORDS = 300
_ENOUGH = 10


class Source:
    """Words, names and pieces of text of some rows, to draw from.

    `words` are lower-case words and `names` words mostly written with a capital, both by falling frequency; `topics` are content words that occur in at least six utterances; `exchanges` are
    the longer turns of one dialogue each, which mostly speak of one matter.
    """

    def __init__(self, rows: Iterable[JsonObject]) -> None:
        self.sentences: list[str] = []
        self.utterances: list[str] = []
        self.passages: list[str] = []
        self.exchanges: list[tuple[str, ...]] = []
        counts: Counter[str] = Counter()
        capitals: Counter[str] = Counter()
        for row in rows:
            for text in texts(row):
                counts.update(_LOWER.findall(text))
                capitals.update(_MID_NAME.findall(text))
                self._take(text, spoken="messages" in row)
            said = tuple(dict.fromkeys(text for text in texts(row) if 6 <= text.count(" ") + 1 <= 25))
            if "messages" in row and len(said) >= 4:
                self.exchanges.append(said)
        self.words = [word for word, count in counts.most_common() if count >= 4]
        self.names = [word for word, count in capitals.most_common() if count >= 3 and count > 3 * counts[word.lower()]]
        self._by_topic = self._index(counts)
        self.topics = [word for word, where in self._by_topic.items() if len(where) >= _TOPIC_UTTERANCES[0]]
        self._check()

    def word(self, rng: np.random.Generator) -> str:
        """Return a lower-case word."""
        return pick(rng, common(rng, self.words))

    def name(self, rng: np.random.Generator) -> str:
        """Return a capitalized name of a person or place, one in five of them made up."""
        return self.invented(rng).capitalize() if chance(rng, 0.2) else pick(rng, common(rng, self.names))

    def invented(self, rng: np.random.Generator) -> str:
        """Return a word that nobody has seen, put together from the beginning of one and the end of another.

        It falls into unusual token pieces, in an order that cannot be guessed: only copying gets it right.
        """
        first, second = pick(rng, self.words), pick(rng, self.words)
        return first[: between(rng, 1, 5)] + second[-between(rng, 1, 5) :]

    def sentence(self, rng: np.random.Generator) -> str:
        """Return a sentence of 4 to 40 words."""
        return pick(rng, self.sentences)

    def utterance(self, rng: np.random.Generator) -> str:
        """Return what somebody said in a dialogue, 3 to 25 words."""
        return pick(rng, self.utterances)

    def passage(self, rng: np.random.Generator) -> str:
        """Return a paragraph of 250 to 800 characters."""
        return pick(rng, self.passages)

    def span(self, rng: np.random.Generator, shortest: int, longest: int) -> str:
        """Return that many neighbouring words of a sentence, without marks at its ends or quotes within."""
        while True:
            words = pick(rng, self.sentences).replace('"', "").split()
            count = min(between(rng, shortest, longest), len(words))
            start = int(rng.random() * (len(words) - count + 1))
            span = " ".join(words[start : start + count]).strip(" .,;:!?-()'_*—")
            if span:
                return span

    def about(self, rng: np.random.Generator, topic: str, count: int, without: Iterable[str] = ()) -> list[str]:
        """Return up to `count` different utterances that hold the topic word and none of the other words."""
        others = set(without) - {topic}
        where = self._by_topic[topic]
        found: list[str] = []
        for position in rng.permutation(len(where)):
            utterance = self.utterances[where[position]]
            if others.isdisjoint(_LOWER.findall(utterance.lower())) and utterance not in found:
                found.append(utterance)
            if len(found) == count:
                break
        return found

    def _check(self) -> None:
        """Raise DataError where a kind of text is missing, rather than draw from nothing later."""
        found = {
            "words": len(self.words),
            "names written with a capital": len(self.names),
            "sentences": len(self.sentences),
            "utterances": len(self.utterances),
            "dialogues with four longer turns": len(self.exchanges),
            "paragraphs": len(self.passages),
            "words that several utterances share": len(self.topics),
        }
        scarce = [f"{number} {kind}" for kind, number in found.items() if number < _ENOUGH]
        if scarce:
            raise DataError(
                f"the corpus has only {', '.join(scarce)} to make examples from; at least {_ENOUGH} of each are needed. "
                "Give a folder with more dialogues and more prose."
            )

    def _take(self, text: str, *, spoken: bool) -> None:
        for paragraph in text.split("\n"):
            if _PASSAGE_CHARS[0] <= len(paragraph) <= _PASSAGE_CHARS[1]:
                self.passages.append(paragraph)
            found = [sentence.strip() for sentence in _SENTENCE_END.split(paragraph)]
            self.sentences.extend(sentence for sentence in found if 4 <= sentence.count(" ") + 1 <= 40)
            if spoken and 3 <= paragraph.count(" ") + 1 <= 25:
                self.utterances.append(paragraph)

    def _index(self, counts: Counter[str]) -> dict[str, list[int]]:
        """List the utterances of each content word; the most common words say nothing of a topic."""
        common = {word for word, _ in counts.most_common(min(_COMMON_WORDS, len(counts) // 10))}
        index: dict[str, list[int]] = {}
        for position, utterance in enumerate(self.utterances):
            for word in set(_LOWER.findall(utterance)):
                if len(word) > 3 and word not in common and word in counts:
                    where = index.setdefault(word, [])
                    if len(where) < _TOPIC_UTTERANCES[1]:
                        where.append(position)
        return dict(sorted(index.items()))


def words_of(text: str) -> list[str]:
    """Return the words of a text without marks, in order."""
    return _WORD.findall(text)
