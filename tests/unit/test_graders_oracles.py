"""Metrics give the figures of the libraries that papers take them from.

On ten thousand random cases each: LUTHIER_EXAMPLES=10000 pytest tests/unit/test_graders_oracles.py
"""

import collections
import json
import os
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from nltk.translate.gleu_score import sentence_gleu
from rapidfuzz import fuzz
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from luthier.core.types import Grade, Grader
from luthier.graders import bleu, chrf, rouge_l, token_f1
from luthier.graders.measures.schema import schema_from
from luthier.graders.measures.sequences import common_subsequence
from luthier.graders.measures.similarity import SIMILARITIES
from luthier.graders.measures.words import bleu_words

PROSE = st.lists(
    st.sampled_from(
        [
            "The",
            "the",
            "cat",
            "sat",
            "on",
            "a",
            "mat",
            "isn't",
            "3.5",
            "1,000",
            "-",
            "(well)",
            "&amp;",
            "ok.",
            "\n",
            "cat!",
            "_",
        ]
    ),
    max_size=14,
).map(" ".join)
PAIRS = st.lists(st.tuples(PROSE, PROSE), min_size=1, max_size=5)
few = settings(max_examples=int(os.environ.get("LUTHIER_EXAMPLES", "80")), deadline=None)


def stored(grader: Grader, pairs: list[tuple[str, str]]) -> list[Grade]:
    """Grade (completion, wanted) pairs as a run does: marks go through JSON before they add up."""
    grades = [grader.grade("", completion, wanted) for completion, wanted in pairs]
    return [Grade(grade.score, json.loads(json.dumps(dict(grade.marks)))) for grade in grades]


@few
@given(PAIRS)
def test_bleu_is_that_of_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    grades = stored(bleu.Grader(), pairs)
    oracle = BLEU(effective_order=True)
    for (completion, wanted), grade in zip(pairs, grades, strict=True):
        assert grade.score * 100 == pytest.approx(oracle.sentence_score(completion, [wanted]).score, abs=1e-9)
    corpus = BLEU().corpus_score([pair[0] for pair in pairs], [[pair[1] for pair in pairs]]).score
    assert bleu.Grader().metrics(grades)["bleu"] == pytest.approx(corpus, abs=1e-9)


@few
@given(st.text(max_size=60))
def test_words_are_cut_as_sacrebleu_cuts_them(text: str) -> None:
    assert bleu_words(text) == BLEU().tokenizer(text.rstrip()).split()


@few
@given(PAIRS, st.sampled_from([0, 1, 2]))
def test_chrf_with_words_is_that_of_sacrebleu(pairs: list[tuple[str, str]], word_order: int) -> None:
    grader, oracle = chrf.Grader(word_order=word_order), CHRF(word_order=word_order)
    grades = stored(grader, pairs)
    for (completion, wanted), grade in zip(pairs, grades, strict=True):
        assert grade.score * 100 == pytest.approx(oracle.sentence_score(completion, [wanted]).score, abs=1e-9)
    corpus = oracle.corpus_score([pair[0] for pair in pairs], [[pair[1] for pair in pairs]]).score
    (found,) = grader.metrics(grades).values()
    assert found == pytest.approx(corpus, abs=1e-9)


@few
@given(PAIRS)
def test_rouge_is_that_of_rouge_score(pairs: list[tuple[str, str]]) -> None:
    oracle = RougeScorer(["rouge1", "rouge2", "rougeL"])
    expected = [oracle.score(wanted, completion) for completion, wanted in pairs]
    grades = stored(rouge_l.Grader(), pairs)
    assert [grade.score for grade in grades] == pytest.approx([score["rougeL"].fmeasure for score in expected])
    metrics = rouge_l.Grader().metrics(grades)
    for mine, its in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        assert metrics[mine] == pytest.approx(sum(score[its].fmeasure for score in expected) / len(pairs))


def test_rouge_keeps_letters_that_are_not_english() -> None:
    assert rouge_l.Grader().grade("", "größer über straße", "Größer über Straße").score == 1


def squad_f1(prediction: str, truth: str) -> float:
    """The F1 of SQuAD's evaluation script 1.1, step by step as it is written there."""

    def normalize_answer(text: str) -> str:
        text = "".join(sign for sign in text.lower() if sign not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    predicted, wanted = normalize_answer(prediction).split(), normalize_answer(truth).split()
    num_same = sum((collections.Counter(predicted) & collections.Counter(wanted)).values())
    if num_same == 0:
        return 0.0
    precision, recall = num_same / len(predicted), num_same / len(wanted)
    return 2 * precision * recall / (precision + recall)


@few
@given(PROSE, PROSE)
def test_token_f1_is_that_of_squad(completion: str, wanted: str) -> None:
    found = token_f1.Grader().grade("", completion, wanted).score
    if squad_has_words(completion) or squad_has_words(wanted):
        assert found == pytest.approx(squad_f1(completion, wanted))
    else:
        assert found == 1  # the script of SQuAD 2.0: no words on either side are the same words


def squad_has_words(text: str) -> bool:
    return bool(re.sub(r"\b(a|an|the)\b", "", re.sub(rf"[{re.escape(string.punctuation)}]", "", text.lower())).strip())


@few
@given(st.text("abc\u00e9", max_size=40), st.text("abc\u00e9", max_size=40))
def test_fuzzy_match_is_the_ratio_of_rapidfuzz(left: str, right: str) -> None:
    assert SIMILARITIES["fuzzy_match"](left, right) == pytest.approx(fuzz.ratio(left, right) / 100)


@few
@given(PROSE, PROSE)
def test_gleu_is_that_of_nltk(completion: str, wanted: str) -> None:
    expected = sentence_gleu([bleu_words(wanted)], bleu_words(completion))
    assert SIMILARITIES["gleu"](completion, wanted) == pytest.approx(expected)


def test_a_common_subsequence_of_long_texts_takes_no_minutes() -> None:
    left = [str(number % 1000) for number in range(60_000)]
    assert common_subsequence(left, left[1:]) == len(left) - 1


SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "a": {"type": "integer", "minimum": 0},
        "b": {"type": "array", "items": {"$ref": "#/$defs/word"}, "uniqueItems": True},
        "c": {"$ref": "#"},
    },
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"word": {"type": ["string", "number"], "pattern": "^x"}},
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from([1.0, 0.5]) | st.sampled_from(["x", "xy", "y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.fixed_dictionaries(
    {"a": st.integers(-1, 3)},
    optional={"b": st.lists(st.sampled_from(["x", "xy", "y", 1, 1.0]), max_size=3), "c": VALUES},
)


@few
@given(VALUES | OBJECTS)
def test_a_value_conforms_where_jsonschema_says_so(value: object) -> None:
    expected = Draft202012Validator(SCHEMA).is_valid(value)
    assert (schema_from(SCHEMA, "schema").fault(value) is None) is expected  # type: ignore[arg-type]
