"""A linear tagger: which words of a text are the value of which field?

An averaged structured perceptron (Collins 2002, https://aclanthology.org/W02-1001) over words, their neighbours, beginnings
and endings, with a weight for each step from one tag to the next; the best sequence of tags by Viterbi. It trains in seconds
on one core. It knows nothing of JSON: fields are numbers here.

Shapes: N words of a text, F features of a word, V known features, L tags.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from luthier.core.hashing import generator

# Scripts without spaces are cut into signs, and digits from letters, so that a value may begin at any of them.
_WORD = re.compile(
    r"\d+|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|[^\w\s]"
)
_LONGEST = 400
_WORDS_TO_SEE = 600_000
_FEWEST_EPOCHS, _MOST_EPOCHS = 3, 10
_MANY_FEATURES = 50_000
_FORBIDDEN = -1e9
_OUTSIDE = 0


class Word(NamedTuple):
    """A word and where it stands in its text."""

    text: str
    start: int
    end: int


class Span(NamedTuple):
    """Words `first` to `last`, both included, that are the value of a field."""

    field: int
    first: int
    last: int


class Example(NamedTuple):
    """A text with its spans; `hint` is what is known of the whole text."""

    words: Sequence[Word]
    hint: str
    spans: Sequence[Span]


def words(text: str) -> list[Word]:
    """Return the first 400 words and signs of a text."""
    found = (Word(match[0], *match.span()) for match in _WORD.finditer(text))
    return [word for word, _ in zip(found, range(_LONGEST), strict=False)]


class Tagger:
    """Marks spans in texts; made of examples."""

    def __init__(self, examples: Sequence[Example], num_fields: int, seed: int) -> None:
        self._num_tags = 1 + 2 * num_fields
        self._ids = _numbered(examples)
        self._forbidden_LL = _forbidden(num_fields)
        self._weight_VL = np.zeros((len(self._ids) + 1, self._num_tags), dtype=np.float32)
        self._step_LL = np.zeros((self._num_tags + 1, self._num_tags), dtype=np.float32)
        self._train(examples, seed)

    def spans(self, found: Sequence[Word], hint: str) -> list[Span]:
        """Return the spans of a text, from left to right."""
        if not found:
            return []
        return list(_spans(self._best_N(self._features_NF(found, hint))))

    def _train(self, examples: Sequence[Example], seed: int) -> None:
        rows = [
            (self._features_NF(one.words, one.hint), _tags_N(len(one.words), one.spans))
            for one in examples
            if one.words
        ]
        num_words = sum(len(tags_N) for _, tags_N in rows)
        epochs = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, _WORDS_TO_SEE // max(1, num_words)))
        # What was added to the weights, times the moment of it: subtracted at the end it leaves the mean over all moments.
        late_VL, late_LL = np.zeros_like(self._weight_VL), np.zeros_like(self._step_LL)
        moment = 1
        for epoch in range(epochs):
            for place in generator(seed, "tagger", epoch).permutation(len(rows)).tolist():
                features_NF, tags_N = rows[place]
                guess_N = self._best_N(features_NF)
                wrong_N = np.flatnonzero(guess_N != tags_N)
                if len(wrong_N):
                    for tags, by in ((tags_N, 1), (guess_N, -1)):
                        at = (features_NF[wrong_N], tags[wrong_N][:, None])
                        steps = (np.concatenate([[self._num_tags], tags[:-1]]), tags)
                        for weight, late, where in (
                            (self._weight_VL, late_VL, at), (self._step_LL, late_LL, steps),
                        ):  # fmt: skip
                            np.add.at(weight, where, by)
                            np.add.at(late, where, by * moment)
                    self._weight_VL[0] = late_VL[0] = 0
                moment += 1
        self._weight_VL -= late_VL / moment
        self._step_LL -= late_LL / moment

    def _best_N(self, features_NF: np.ndarray) -> np.ndarray:
        """Return the best sequence of tags."""
        score_NL = self._weight_VL[features_NF].sum(axis=1)
        step_LL = self._step_LL + self._forbidden_LL
        between_LL, tags_L = step_LL[:-1], np.arange(self._num_tags)
        from_NL = np.zeros(score_NL.shape, dtype=np.int64)
        best_L = score_NL[0] + step_LL[-1]
        for place in range(1, len(score_NL)):
            total_LL = best_L[:, None] + between_LL
            from_NL[place] = total_LL.argmax(axis=0)
            best_L = total_LL[from_NL[place], tags_L] + score_NL[place]
        tags = [int(best_L.argmax())]
        for place in range(len(score_NL) - 1, 0, -1):
            tags.append(int(from_NL[place, tags[-1]]))
        return np.array(tags[::-1])

    def _features_NF(self, found: Sequence[Word], hint: str) -> np.ndarray:
        """Return the numbers of each word's features; 0 is one that training never saw, and weighs nothing."""
        return np.array([[self._ids.get(name, 0) for name in names] for names in _features(found, hint)])


def _numbered(examples: Sequence[Example]) -> dict[str, int]:
    """Number the features from 1; where there are many, those that are seen once are left out."""
    seen = Counter(name for one in examples for names in _features(one.words, one.hint) for name in names)
    fewest = 2 if len(seen) > _MANY_FEATURES else 1
    kept = (name for name, times in seen.items() if times >= fewest)
    return {name: number for number, name in enumerate(kept, start=1)}


def _features(found: Sequence[Word], hint: str) -> Iterator[list[str]]:
    shapes = ["", *(_shape(word.text) for word in found), ""]
    lower = ["<<", "<", *(word.text.casefold() for word in found), ">", ">>"]
    for place in range(len(found)):
        before_2, before, word, behind, behind_2 = lower[place : place + 5]
        shape_before, shape, shape_behind = shapes[place : place + 3]
        yield [
            f"0 {word}", f"-1 {before}", f"-2 {before_2}", f"+1 {behind}", f"+2 {behind_2}",
            f"-1 0 {before} {word}", f"0 +1 {word} {behind}", f"-2 -1 {before_2} {before}", f"+1 +2 {behind} {behind_2}",
            f"-1 +1 {before} {behind}",
            f"begins {word[:2]}", f"begins {word[:3]}", f"ends {word[-2:]}", f"ends {word[-3:]}", f"ends {word[-4:]}",
            f"shape {shape}", f"shapes {shape_before} {shape}", f"shapes {shape} {shape_behind}",
            f"hint {hint}", f"hint {hint} 0 {word}", f"hint {hint} -1 {before}", f"hint {hint} +1 {behind}", "any",
        ]  # fmt: skip


def _shape(word: str) -> str:
    if word.isdigit():
        return f"digits {min(len(word), 5)}"
    return "sign" if not word[0].isalpha() else "upper" if word.isupper() else "title" if word[0].isupper() else "lower"


def _forbidden(num_fields: int) -> np.ndarray:
    """Return what makes a tag that goes on with a field impossible after anything but that field; the last line is the start."""
    num_tags = 1 + 2 * num_fields
    forbidden_LL = np.zeros((num_tags + 1, num_tags), dtype=np.float32)
    for begins in range(1, num_tags, 2):
        forbidden_LL[:, begins + 1] = _FORBIDDEN
        forbidden_LL[begins : begins + 2, begins + 1] = 0
    return forbidden_LL


def _tags_N(num_words: int, spans: Sequence[Span]) -> np.ndarray:
    tags_N = np.full(num_words, _OUTSIDE)
    for span in spans:
        tags_N[span.first] = 1 + 2 * span.field
        tags_N[span.first + 1 : span.last + 1] = 2 + 2 * span.field
    return tags_N


def _spans(tags_N: np.ndarray) -> Iterator[Span]:
    start = None
    for place, tag in enumerate([*tags_N.tolist(), _OUTSIDE]):
        goes_on = tag and tag % 2 == 0
        if start is not None and not goes_on:
            yield Span((int(tags_N[start]) - 1) // 2, start, place - 1)
            start = None
        if tag % 2:
            start = place
