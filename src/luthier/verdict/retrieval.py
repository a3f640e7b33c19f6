"""Find the passages that belong to a question: by words, by meaning where a model for that is named, fused by rank.

Passages are the solved training rows and the chunks of the user's knowledge.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property

import numpy as np

from luthier.core.errors import SettingsError
from luthier.core.types import Message
from luthier.data.knowledge import chunks
from luthier.verdict.asking import Candidate, Material, with_context
from luthier.verdict.bm25 import Bm25
from luthier.verdict.questions import Question

Embed = Callable[[Sequence[str]], np.ndarray]
COUNTS = (1, 3, 8)
# Cormack, Clarke and Buettcher 2009 (Reciprocal Rank Fusion outperforms Condorcet): the constant that they found robust.
_FUSION = 60
_RANKED = 50


class Index:
    """Passages that can be searched, indexed when first asked; `embed` turns texts into unit vectors, one a row."""

    def __init__(self, passages: Sequence[str], embed: Embed | None = None) -> None:
        self.passages = passages
        self._embed = embed

    @cached_property
    def _words(self) -> Bm25:
        return Bm25(self.passages)

    @cached_property
    def _vectors_ND(self) -> np.ndarray:
        assert self._embed is not None
        return self._embed(self.passages)

    def search(self, query: str, without: Collection[int] = ()) -> list[int]:
        """Return the places of the passages that fit best, best first; none of `without`."""
        rankings = [self._words.best(query, _RANKED, without)]
        if self._embed is not None:
            alike_N = self._vectors_ND @ self._embed([query])[0]
            alike_N[list(without)] = -np.inf
            ranked = np.argsort(-alike_N, kind="stable")[: min(_RANKED, len(alike_N) - len(without))]
            rankings.append([int(place) for place in ranked])
        return fused(rankings)


def fused(rankings: Sequence[Sequence[int]]) -> list[int]:
    """Return what any ranking names, by the sum of 1 / (60 + rank) over the rankings; ties by the first that names it."""
    score: dict[int, float] = {}
    for ranking in rankings:
        for rank, place in enumerate(ranking, start=1):
            score[place] = score.get(place, 0.0) + 1 / (_FUSION + rank)
    return sorted(score, key=lambda place: -score[place])


def candidates(material: Material, counts: Sequence[int] = COUNTS) -> list[Candidate]:
    """Return the ways of asking with passages: from the training rows, from the knowledge, and from both."""
    embed = embedding(material)
    found: list[Candidate] = []
    for name, passages in pools(material).items():
        index = Index(passages, embed)
        found += [_candidate(material, index, name, count) for count in counts]
    return found


def pools(material: Material) -> dict[str, list[str]]:
    """Return the passages of each source that has any; the knowledge first, where there is some; solved rows behind it in both."""
    solved = [f"{one.text}\nAnswer: {one.wanted}" for one in material.examples]
    known = [chunk for document in material.sources.documents for chunk in chunks(document)]
    sources = {"the knowledge": known, "the training rows": solved, "both": known + solved if known and solved else []}
    return {name: passages for name, passages in sources.items() if passages}


def as_trained_first(material: Material, trained_with: int) -> list[Candidate]:
    """Return the ways of asking with passages, first that of a model which was trained with so many of the first source."""
    found = candidates(material, sorted({*COUNTS, trained_with}))
    own = _name(trained_with, next(iter(pools(material)))) if found else ""
    return sorted(found, key=lambda one: one.name != own)


def embedding(material: Material) -> Embed | None:
    """Return what embeds texts where the settings name a model for it."""
    return None if material.settings.dense is None else sentence_vectors(material.settings.dense)


def shown(material: Material, ranked: Sequence[str], count: int, question: Question, room: int) -> tuple[Message, ...]:
    """Return the messages with the first `count` passages that fit into the room before the question."""
    fit = material.fitting(ranked, count, min(room, material.settings.added_tokens))
    return with_context(question, [ranked[place] for place in fit])


def sentence_vectors(model: str) -> Embed:
    """Return what embeds texts with a sentence-transformers model; raise SettingsError where that package is missing."""
    try:
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports] - an extra
    except ImportError as error:
        raise SettingsError(
            f"compare.dense: {model} needs the package sentence-transformers; install it with: pip install 'luthier[dense]'"
        ) from error
    encoder = SentenceTransformer(model, trust_remote_code=False)
    return lambda texts: np.asarray(encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))


def _candidate(material: Material, index: Index, source: str, count: int) -> Candidate:
    def ask(question: Question, room: int) -> tuple[Message, ...]:
        ranked = [index.passages[place] for place in index.search(question.text)]
        return shown(material, ranked, count, question, room)

    return Candidate(_name(count, source), ask)


def _name(count: int, source: str) -> str:
    return f"{count} {'passage' if count == 1 else 'passages'} from {source}"
