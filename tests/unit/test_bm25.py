"""BM25 against its formula written out, word by word and text by text."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.verdict.bm25 import K1, B, Bm25, words

TEXTS = ["The cat sat on the mat.", "A dog, a cat and a bird!", "Birds sing", "", "dog dog dog dog"]
SOME_TEXT = st.lists(st.sampled_from("cat dog bird mat sings the a".split()), max_size=12).map(" ".join)


def by_hand(texts: list[str], query: str) -> list[float]:
    """Robertson and Zaragoza 2009, equation 3.15, with ln(1 + (N - df + 0.5) / (df + 0.5)) as Lucene has it."""
    counts = [Counter(words(text)) for text in texts]
    mean = sum(count.total() for count in counts) / len(texts)
    scores = []
    for count in counts:
        score = 0.0
        for word in words(query):
            containing = sum(word in other for other in counts)
            if word in count:
                rarity = math.log(1 + (len(texts) - containing + 0.5) / (containing + 0.5))
                score += rarity * count[word] * (K1 + 1) / (count[word] + K1 * (1 - B + B * count.total() / mean))
        scores.append(score)
    return scores


@given(st.lists(SOME_TEXT, min_size=1, max_size=8).filter(any), SOME_TEXT)
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_the_formula(texts: list[str], query: str):
    assert Bm25(texts).scores(query) == pytest.approx(by_hand(texts, query))


def test_a_rare_word_counts_for_more_than_a_common_one_and_a_short_text_for_more_than_a_long_one():
    index = Bm25(TEXTS)
    assert index.best("cat", 5) == [0, 1] or index.best("cat", 5) == [1, 0]
    assert index.best("the sing", 1) == [2]
    assert index.best("zebra", 5) == []
    assert index.best("DOG", 9)[0] == 4


def test_ties_stay_in_order_and_an_empty_index_finds_nothing():
    assert Bm25(["same words", "same words", "same words"]).best("words", 2) == [0, 1]
    assert Bm25([]).best("anything", 3) == []
    assert Bm25(["", "..."]).best("", 3) == []


def test_case_accents_and_punctuation_do_not_matter_and_scripts_without_spaces_are_found():
    assert Bm25(["Öl und Café", "etwas anderes"]).best("CAFE!", 1) == [0]
    index = Bm25(["東京の天気はどうですか", "大阪でラーメンを食べる"])
    assert index.best("天気", 1) == [0] and index.best("ラーメン", 1) == [1]


def test_the_columns_of_the_matrix_hold_nothing_negative():
    assert (Bm25(TEXTS).weight_NW.data >= 0).all()
    assert np.isfinite(Bm25(TEXTS).weight_NW.data).all()
