"""Which solved training rows stand before a question as examples.

`fixed` draws them by the seed, `diverse` takes rows as far from one another as can be, new answers first, and `nearest`
takes those that share most words with the question (Liu et al. 2022, arXiv 2101.06804), the nearest last, where models look most.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix, diags

from luthier.core.errors import DataError
from luthier.core.hashing import generator
from luthier.core.types import Message
from luthier.verdict.asking import Candidate, Material, with_turns
from luthier.verdict.bm25 import Bm25
from luthier.verdict.questions import Question
from luthier.verdict.retrieval import Index

_LOOKED_AT = 2_000
_STEP = 4
_RANKED = 64


def counts(material: Material) -> list[int]:
    """Return how many examples are tried: 1, 4, 16 ... up to the most that the settings allow."""
    most = min(material.settings.examples, len(material.examples))
    tried = [1]
    while tried[-1] * _STEP < most:
        tried.append(tried[-1] * _STEP)
    return sorted({*tried, max(1, most)})


def fixed(material: Material) -> list[Question]:
    """Return examples in an order that depends on the seed alone."""
    return _drawn(material, "fixed examples", _RANKED)


def diverse(material: Material) -> list[Question]:
    """Return examples each as unlike those before it as possible; answers that were not shown yet go first."""
    rows = _drawn(material, "diverse examples", _LOOKED_AT)
    vector_NW = _unit_rows(csr_matrix(Bm25([row.text for row in rows]).weight_NW))
    likeness_N = np.zeros(len(rows))
    order: list[int] = []
    shown: set[str] = set()
    for _ in range(min(len(rows), max(counts(material)))):
        left = [place for place in range(len(rows)) if place not in order]
        new = [place for place in left if rows[place].wanted.strip() not in shown]
        place = min(new or left, key=lambda place: likeness_N[place])
        order.append(place)
        shown.add(rows[place].wanted.strip())
        likeness_N = np.maximum(likeness_N, np.asarray((vector_NW @ vector_NW[place].T).todense()).ravel())
    return [rows[place] for place in order]


def shown_first(material: Material, strategy: str, order: Sequence[Question]) -> list[Candidate]:
    """Return candidates that show the first examples of an order, the same before every question."""
    found: list[Candidate] = []
    most_shown = 0
    for count in counts(material):
        shown = len(_chosen(material, order, count, material.settings.added_tokens))
        if shown > most_shown:
            most_shown = shown
            found.append(_same_for_all(material, strategy, order, count, shown))
    return found


def nearest(material: Material) -> list[Candidate]:
    """Return candidates that show the examples whose questions are most like the one asked."""
    index = Index([one.text for one in material.examples])
    return [_nearest(material, index, count) for count in counts(material)]


def _nearest(material: Material, index: Index, count: int) -> Candidate:
    def ask(question: Question, room: int) -> tuple[Message, ...]:
        ranked = [material.examples[place] for place in index.search(question.text)]
        return with_turns(question, _chosen(material, ranked, count, room)[::-1])

    return Candidate(f"nearest {count}", ask)


def _same_for_all(material: Material, strategy: str, order: Sequence[Question], count: int, shown: int) -> Candidate:
    def ask(question: Question, room: int) -> tuple[Message, ...]:
        return with_turns(question, _chosen(material, order, count, room))

    return Candidate(f"{strategy} {shown}", ask)


def _chosen(material: Material, ranked: Sequence[Question], count: int, room: int) -> list[Question]:
    texts = [f"{one.text}\n{one.wanted}" for one in ranked]
    fit = material.fitting(texts, count, min(room, material.settings.added_tokens))
    return [ranked[place] for place in fit]


def _drawn(material: Material, stream: str, most: int) -> list[Question]:
    if not material.examples:
        raise DataError(
            "no training row has a question and an answer in text, so the arm few_shot has no example to show."
        )
    order = generator(material.seed, stream).permutation(len(material.examples))
    return [material.examples[place] for place in order[:most].tolist()]


def _unit_rows(matrix_NW: csr_matrix) -> csr_matrix:
    length_N = np.sqrt(np.asarray(matrix_NW.multiply(matrix_NW).sum(axis=1)).ravel())
    return csr_matrix(diags(1 / np.maximum(length_N, 1e-12)) @ matrix_NW)
