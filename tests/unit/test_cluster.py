"""Clusters: what is joined is truly alike, what is alike is found, and a crowd stays bounded."""

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.errors import SettingsError
from luthier.core.types import Conversation, Message, Preference, Row, Text
from luthier.data.cluster import cluster, link
from luthier.data.crossing import crossing_pairs
from luthier.data.minhash import band_width, near_pairs
from luthier.data.normal import answer, content_key, normalized, question
from luthier.data.shingles import shingle_sets, without_form

TASKS = Path(__file__).parents[2].parent / "shared" / "data" / "tasks"
THRESHOLD = 0.8


def row(content: Conversation | Preference | Text) -> Row:
    return Row("id", "a.jsonl", 1, 1, content)


def babble(rng: random.Random, words: int) -> list[str]:
    return ["".join(rng.choices("abcdefghij", k=rng.randint(2, 7))) for _ in range(words)]


def edited(rng: random.Random, words: list[str], edits: int) -> list[str]:
    out = list(words)
    for place in rng.sample(range(len(out)), edits):
        out[place] = babble(rng, 1)[0]
    return out


def near_family(rng: random.Random, words: int, edits: int, count: int) -> list[str]:
    """Texts in pairs: each is followed by a copy with a few words changed."""
    out = []
    for _ in range(count):
        text = babble(rng, words)
        out += [" ".join(text), " ".join(edited(rng, text, rng.randint(0, edits)))]
    return out


def true_similarities(texts: list[str]) -> dict[tuple[int, int], float]:
    """Jaccard by plain Python sets, on character 5-grams of short texts and word trigrams of long ones."""
    out = {}
    for shingles, fits in (
        (lambda t: {f" {t} "[i : i + 5] for i in range(len(t) - 2)}, lambda t: len(t.split()) < 60),
        (lambda t: set(zip(t.split(), t.split()[1:], t.split()[2:])), lambda t: len(t.split()) >= 30),
    ):
        sets = [(place, shingles(text)) for place, text in enumerate(texts) if fits(text)]
        for i, (left, a) in enumerate(sets):
            for right, b in sets[i + 1 :]:
                out[left, right] = max(out.get((left, right), 0.0), len(a & b) / len(a | b))
    return out


@pytest.mark.parametrize(("words", "edits"), [(15, 1), (20, 3), (40, 4), (90, 6)])
def test_pairs_agree_with_brute_force(words: int, edits: int) -> None:
    texts = near_family(random.Random(words), words, edits, 60)
    truth = true_similarities(texts)
    links = link(texts, THRESHOLD)
    found = set(zip(links.left_P.tolist(), links.right_P.tolist()))
    place = {text: number for number, text in enumerate(links.questions)}
    alike = {
        tuple(sorted((place[texts[a]], place[texts[b]]))): value
        for (a, b), value in truth.items()
        if texts[a] != texts[b]
    }
    assert found <= {pair for pair, value in alike.items() if value >= THRESHOLD}
    sure = {pair for pair, value in alike.items() if value >= THRESHOLD + 0.05}
    assert sure, "the test must hold pairs that are to be found"
    assert len(found & sure) >= 0.95 * len(sure)


def test_a_pair_on_either_side_of_the_line_between_short_and_long_is_found() -> None:
    words = babble(random.Random(1), 30)
    assert len(set(cluster([" ".join(words), " ".join(words[:-1])], [None, None], THRESHOLD).tolist())) == 1


def test_exact_search_finds_every_crossing_pair() -> None:
    texts = near_family(random.Random(3), 25, 4, 80)
    short, _ = shingle_sets(texts)
    held_out, rest = np.arange(0, 60), np.arange(60, len(texts))
    shuffled = np.random.default_rng(0).permutation(len(texts))
    left, right = crossing_pairs(short, shuffled[held_out], shuffled[rest], THRESHOLD)
    sides = {int(place): "held out" for place in shuffled[held_out]}
    truth = {
        frozenset(pair)
        for pair, value in true_similarities(texts).items()
        if value >= THRESHOLD and (pair[0] in sides) != (pair[1] in sides)
    }
    assert len(truth) > 5
    assert {frozenset(pair) for pair in zip(left.tolist(), right.tolist())} == truth


def test_same_question_in_other_clothes_and_same_group_join() -> None:
    questions = [
        "Where is my Café card?",
        "where is  my cafe card",
        "something else",
        "a third, unlike thing",
        "fourth",
    ]
    assert cluster(questions, [None, None, "g", None, "g"], 1.0).tolist() == [0, 0, 2, 3, 2]


def test_threshold_one_joins_only_equal_questions() -> None:
    texts = ["please tell me where my new card is now", "please tell me where my new card is"]
    assert len(set(cluster(texts, [None, None], 0.8).tolist())) == 1
    assert len(set(cluster(texts, [None, None], 1.0).tolist())) == 2


def test_no_rows_and_empty_questions() -> None:
    assert cluster([], [], THRESHOLD).tolist() == []
    assert cluster(["", " ", "a"], [None] * 3, THRESHOLD).tolist() == [0, 0, 2]


def test_a_threshold_too_low_to_mean_anything_is_refused() -> None:
    with pytest.raises(SettingsError, match="near_duplicate"):
        cluster(["a", "b"], [None, None], 0.1)


def test_appended_texts_do_not_change_which_earlier_ones_are_alike() -> None:
    rng = random.Random(5)
    text = babble(rng, 20)
    crowd = [" ".join(edited(rng, text, rng.randint(0, 2))) for _ in range(120)]
    short, _ = shingle_sets(crowd)
    for first in (30, 60, 90):
        earlier, _ = shingle_sets(crowd[:first])
        pairs = set(zip(*(places.tolist() for places in near_pairs(short, THRESHOLD, None))))
        before = set(zip(*(places.tolist() for places in near_pairs(earlier, THRESHOLD, None))))
        assert {pair for pair in pairs if max(pair) < first} == before


def test_progress_rises_to_one_over_short_and_long_texts() -> None:
    rng = random.Random(2)
    told: list[float] = []
    link([" ".join(babble(rng, words)) for words in range(5, 80)], THRESHOLD, told.append)
    assert told == sorted(told) and told[-1] == 1 and len(told) >= 2


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95])
def test_bands_find_a_pair_at_the_threshold(threshold: float) -> None:
    width = band_width(threshold)
    assert 1 - (1 - threshold**width) ** (128 // width) >= 0.99


def test_a_long_common_instruction_is_not_what_the_rows_say() -> None:
    rng = random.Random(7)
    form = (
        "you are given a message of a customer classify it into one of the following intents and answer with its name"
    )
    texts = [f"{form} {' '.join(babble(rng, 9))}" for _ in range(60)]
    texts.append(texts[0] + " please")
    clusters = cluster(texts, [None] * len(texts), THRESHOLD)
    assert clusters[-1] == clusters[0]
    assert len(set(clusters.tolist())) == 60
    assert all("classify" not in text for text in without_form(texts))


def test_a_set_of_one_question_with_typing_errors_stays_one_cluster() -> None:
    rng = random.Random(8)
    text = babble(rng, 40)
    texts = [" ".join(edited(rng, text, 1)) for _ in range(50)]
    assert len(set(cluster(texts, [None] * 50, THRESHOLD).tolist())) == 1


@pytest.mark.skipif(not TASKS.is_dir(), reason="needs ../shared/data")
def test_similar_short_questions_do_not_chain_into_one_cluster() -> None:
    lines = (TASKS / "banking77" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    started = time.monotonic()
    clusters = cluster(texts, [None] * len(texts), THRESHOLD)
    assert time.monotonic() - started < 20
    sizes = np.unique(clusters, return_counts=True)[1]
    assert sizes.max() < 0.02 * len(texts)
    assert len(sizes) < len(texts) - 100


def test_in_a_crowded_bucket_a_text_meets_a_bounded_number_of_others() -> None:
    texts = ["go on " * repeats for repeats in range(4, 29)] + ["go on " * repeats + "go" for repeats in range(4, 29)]
    short, _ = shingle_sets(texts)
    _, right = near_pairs(short, THRESHOLD, None)
    assert max(np.bincount(right)) == 32
    assert len(set(cluster(texts, [None] * len(texts), THRESHOLD).tolist())) == 1


def test_a_crowd_of_alike_texts_stays_one_cluster() -> None:
    rng = random.Random(9)
    text = babble(rng, 20)
    crowd = [" ".join([*edited(rng, text, 1), str(number)]) for number in range(1000)]
    sizes = np.unique(cluster(crowd, [None] * len(crowd), THRESHOLD), return_counts=True)[1]
    assert sizes.max() > 0.98 * len(crowd)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("Hello,  World!", "hello world", True),
        ("“Quoted” text…", "quoted text", True),
        ("ﬁne NAÏVE straße", "fine naive strasse", True),
        ("What is 8 - 3?", "What is 8 / 3?", False),
        ("What is 8-3?", "what is 8-3", True),
        ("the root of -5", "the root of 5", False),
        ("f(x) + 1", "f(x) < 1", False),
        ("की", "कि", False),
        ("は", "ば", False),
        ("I agree 👍", "I agree 👎", False),
    ],
)
def test_normalized_texts(left: str, right: str, same: bool) -> None:
    assert (normalized(left) == normalized(right)) is same


def test_a_text_of_punctuation_alone_stays_itself() -> None:
    assert normalized("?!") == "?!" != normalized("...")


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_normalizing_ignores_case_and_surrounding_space(text: str) -> None:
    if normalized(text) not in (text, text.strip()):
        assert normalized(f"  {text}\n") == normalized(text)


def test_question_and_answer_of_every_kind_of_row() -> None:
    system, user = Message("system", "be kind"), Message("user", "hi")
    call: dict[str, object] = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = (
        system,
        user,
        Message("assistant", "hello"),
        Message("user", "go"),
        Message("assistant", "", tool_calls=(call,)),
    )
    chat = row(Conversation(turns))
    assert question(chat) == "hi\nhello\ngo"
    assert json.loads(answer(chat)) == [call]
    pair = row(Preference((system, user), (Message("assistant", "good"),), (Message("assistant", "bad"),)))
    assert (question(pair), answer(pair)) == ("hi", "good")
    assert (question(row(Text("a page"))), answer(row(Text("a page")))) == ("a page", "")
    assert question(row(Conversation((system, Message("assistant", "x"))))) == "be kind"
    assert question(row(Conversation((Message("assistant", "x"),)))) == "x"


def test_content_key_sees_everything_that_training_could_see() -> None:
    user, good = Message("user", "hi"), Message("assistant", "good")
    contents = [
        Conversation((user, good)),
        Conversation((user, Message("assistant", "good", weight=0))),
        Conversation((user, Message("assistant", "good", reasoning="because"))),
        Conversation((user, good), tools=({"type": "function"},)),
        Preference((user,), (good,), (Message("assistant", "bad"),)),
        Text("hi good"),
    ]
    assert len({content_key(row(content)) for content in contents}) == len(contents)
    assert content_key(row(contents[0])) == content_key(row(Conversation((user, good))))
