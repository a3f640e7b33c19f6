"""Pairs whose likeness is known: what is alike is found, what is not is not, and the likeness is the true one."""

import hashlib
import random

import numpy as np
import pytest

from luthier.data.cluster import link
from luthier.data.shingles import find_form, shingle_sets

THRESHOLD = 0.8
PAIRS = 1500


def babble(rng: random.Random, words: int) -> list[str]:
    return ["".join(rng.choices("abcdefghijklmno", k=rng.randint(3, 8))) for _ in range(words)]


def pair(rng: random.Random, words: int, likeness: float) -> tuple[str, str]:
    """Two texts of word trigrams with nearly this Jaccard similarity: the end of the second is another one."""
    text = babble(rng, words)
    other = round((words - 2) * (1 - likeness) / (1 + likeness))
    return " ".join(text), " ".join(text[: words - other] + babble(rng, other))


def trigrams(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return set(zip(words, words[1:], words[2:]))


def true_likeness(left: str, right: str) -> float:
    a, b = trigrams(left), trigrams(right)
    return len(a & b) / len(a | b)


@pytest.fixture(scope="module")
def known() -> list[tuple[str, str, float]]:
    rng = random.Random(11)
    pairs = [pair(rng, rng.randint(60, 110), rng.uniform(0.5, 0.95)) for _ in range(PAIRS)]
    return [(left, right, true_likeness(left, right)) for left, right in pairs]


def test_recall_and_precision_by_band_of_likeness(known: list[tuple[str, str, float]]) -> None:
    links = link([text for left, right, _ in known for text in (left, right)], THRESHOLD)
    found = set(zip(links.left_P.tolist(), links.right_P.tolist()))
    place = {text: number for number, text in enumerate(links.questions)}
    hits = np.array([(place[left], place[right]) in found for left, right, _ in known])
    likeness = np.array([value for _, _, value in known])
    assert len(found) == hits.sum(), "nothing but the planted pairs is alike"
    assert not hits[likeness < THRESHOLD].any()
    for low in (0.8, 0.85, 0.9):
        band = (likeness >= low) & (likeness < low + 0.05)
        assert band.sum() > 80
        assert hits[band].mean() >= (0.97 if low == THRESHOLD else 0.99)


def test_the_likeness_told_is_the_true_one(known: list[tuple[str, str, float]]) -> None:
    links = link([text for left, right, _ in known[:300] for text in (left, right)], 0.5)
    truth = {frozenset((left, right)): value for left, right, value in known}
    told = {
        frozenset((links.questions[left], links.questions[right])): value
        for left, right, value in zip(links.left_P.tolist(), links.right_P.tolist(), links.likeness_P().tolist())
    }
    assert len(told) > 200
    assert all(abs(truth[key] - value) < 0.02 for key, value in told.items())


def test_batches_do_not_change_the_shingles() -> None:
    rng = random.Random(3)
    texts = [" ".join(babble(rng, rng.randint(1, 80))) for _ in range(1100)]
    whole = shingle_sets(texts, form=set())
    for kind, number in ((whole[0], 5), (whole[1], 7)):
        for place in range(0, len(kind.members_N), 50):
            alone = shingle_sets([texts[kind.members_N[place]]], form=set())[number == 7]
            assert kind.taken(np.array([place]))[1].tolist() == alone.ids_S.tolist()
            assert np.all(np.diff(alone.ids_S) > 0)


def test_texts_picked_out_of_others_bring_their_form() -> None:
    rng = random.Random(4)
    form = "please read the message below with care and say which of the known intents it has"
    texts = [f"{form} {' '.join(babble(rng, 4))}" for _ in range(50)]
    assert len(link(texts[:3], 0.5).left_P) > 0, "three texts alone cannot tell that the rest is a form"
    assert len(link(texts[:3], 0.5, form=find_form(texts)).left_P) == 0


def test_the_pairs_of_a_fixed_set_never_change() -> None:
    rng = random.Random(21)
    texts = [text for words in range(2, 122) for text in pair(rng, words, rng.uniform(0.6, 0.95))]
    crowd = [" ".join(text.split()[:40] + babble(rng, 3)) for text in texts[-1:] * 60]
    links = link([*texts, *crowd], 0.7)
    found = np.stack([links.left_P, links.right_P]).astype("<i8").tobytes()
    shingles = b"".join(kind.ids_S.astype("<i4").tobytes() for kind in links.sets)
    # Parts of runs that were made before must come out again: who makes this faster keeps every bit.
    assert hashlib.sha256(found + shingles).hexdigest()[:16] == "b37b7cb522138e4c"
