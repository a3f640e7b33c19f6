"""Confident learning finds planted flips, keeps like rows in one fold, and proposes without changing anything."""

import json

import numpy as np
import pytest

from luthier.core.types import Conversation, Finding, Message, Row
from luthier.data.answers_kind import Labels, spelling_key, with_value
from luthier.data.checking import context_of
from luthier.data.checks.label_errors import Check
from luthier.data.confident import confident_classes, doubts, thresholds
from luthier.data.examine import examine
from luthier.data.normal import answer
from luthier.data.out_of_fold import FOLDS, calibrated, folds, out_of_fold

TOPICS = {
    "card_arrival": ["card", "delivery", "post", "arrive", "envelope", "courier"],
    "exchange_rate": ["currency", "rate", "euro", "dollar", "convert", "abroad"],
    "pin_blocked": ["pin", "blocked", "attempts", "unlock", "code", "machine"],
    "top_up_failed": ["topping", "failed", "balance", "bank", "refused", "app"],
}
FILLERS = ["please", "today", "my", "the", "how", "why", "can", "you", "tell", "me", "about", "again", "still", "now"]


def row(line: int, asked: str, said: str) -> Row:
    return Row(f"r{line}", "a.jsonl", line, line, Conversation((Message("user", asked), Message("assistant", said))))


def rows_with_flips(count: int, share: float, as_json: bool = False) -> tuple[list[Row], dict[str, str]]:
    """Rows on four topics; `share` of them carry another topic's label. Returns them with the right labels."""
    rng = np.random.default_rng(3)
    names = list(TOPICS)
    rows, right = [], {}
    for line in range(1, count + 1):
        topic = names[line % len(names)]
        words = [*rng.choice(TOPICS[topic], 3), *rng.choice(FILLERS, 5)]
        flipped = rng.random() < share
        said = names[(line + 1 + int(rng.integers(3))) % len(names)] if flipped else topic
        said = json.dumps({"intent": said, "note": f"n{line}"}) if as_json else said
        rows.append(row(line, " ".join(rng.permutation(words)), said))
        if flipped:
            right[f"r{line}"] = topic
    return rows, right


def find(rows: list[Row]) -> list[Finding]:
    return examine({"label_errors": Check(context_of(rows))}, rows)["label_errors"]


def test_planted_flips_are_found_ranked_and_given_their_right_label() -> None:
    rows, right = rows_with_flips(600, 0.1)
    summary, *found = find(rows)
    assert summary.kind == "estimate" and summary.severity == "info"
    hits = [one for one in found if one.rows[0] in right]
    assert len(hits) / len(found) >= 0.95 and len(hits) / len(right) >= 0.8
    assert all(0.4 < one.confidence <= 0.95 for one in found) and found[0].severity == "warning"
    assert [one.confidence for one in found] == sorted((one.confidence for one in found), reverse=True)
    for one in hits:
        (repair,) = one.repairs
        assert not repair.safe and repair.action == "fix" and repair.content is not None
        assert answer(Row("x", "x", 1, 1, repair.content)) == right[one.rows[0]]
        assert right[one.rows[0]] in one.detail and "a.jsonl:" in one.detail


def test_few_doubts_on_right_labels_are_only_worth_knowing() -> None:
    rows, _ = rows_with_flips(600, 0.0)
    assert all(one.severity == "info" for one in find(rows))
    assert len(find(rows)) <= 6


def test_a_label_in_a_json_field_is_doubted_and_the_rest_of_the_answer_stays() -> None:
    rows, right = rows_with_flips(400, 0.1, as_json=True)
    _, *found = find(rows)
    hits = [one for one in found if one.rows[0] in right]
    assert len(hits) / len(right) >= 0.85 and all(one.kind == "field" and "'intent'" in one.detail for one in found)
    content = hits[0].repairs[0].content
    assert content is not None
    mended = json.loads(answer(Row("x", "x", 1, 1, content)))
    assert mended == {"intent": right[hits[0].rows[0]], "note": f"n{hits[0].rows[0][1:]}"}


def test_copies_of_a_wrong_row_do_not_vouch_for_each_other() -> None:
    rows, _ = rows_with_flips(400, 0.0)
    asked = "why is my pin blocked and how can i unlock the code"
    copies = [row(1000 + i, asked + mark, "card_arrival") for i, mark in enumerate(["", "?", "!", ".", " ?", ";"])]
    found = {one.rows[0] for one in find([*rows, *copies]) if one.kind == "label"}
    assert {one.id for one in copies} <= found


def test_spellings_of_a_label_are_not_errors() -> None:
    rows, _ = rows_with_flips(400, 0.0)
    spelled = [
        row(one.line, one.content.messages[0].content, answer(one).replace("_", " ").title())  # type: ignore[union-attr]
        if place % 3 == 0
        else one
        for place, one in enumerate(rows)
    ]
    assert len(find(spelled)) <= 6


@pytest.mark.parametrize("rows", [[], [row(1, "a", "b")], [row(i, f"question {i}", "yes") for i in range(80)]])
def test_too_little_to_learn_from_says_nothing(rows: list[Row]) -> None:
    assert find(rows) == []


def test_prose_and_numbers_are_not_labels() -> None:
    prose = [row(i, f"tell me about {i}", f"A story about {i} that goes on, and another sentence.") for i in range(200)]
    numbers = [row(i, f"what is {i % 60} and {i % 60}", str(2 * (i % 60))) for i in range(200)]
    assert find(prose) == [] == find(numbers)


def test_the_confident_joint_is_that_of_the_paper() -> None:
    probability = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.55, 0.45]])
    given = np.array([0, 0, 0, 1, 1, 1])
    assert thresholds(probability, given) == pytest.approx([0.6, 0.65])
    assert confident_classes(probability, given).tolist() == [0, 0, 1, 1, 1, -1]
    found = doubts(probability, given)
    assert found.row.tolist() == [2] and found.suggestion.tolist() == [1]
    # Of the three rows given class 0 one is counted as 1, and none of the three given class 1.
    assert found.estimated_share == pytest.approx(1 / 6)


@pytest.mark.parametrize("seed", range(4))
def test_the_doubts_are_those_of_cleanlab(seed: int) -> None:
    cleanlab = pytest.importorskip("cleanlab.filter", reason="cleanlab is the oracle and no dependency")
    rng = np.random.default_rng(seed)
    given = rng.integers(0, 5, 500)
    scores = rng.normal(size=(500, 5)) + 3 * np.eye(5)[np.where(rng.random(500) < 0.85, given, rng.integers(0, 5, 500))]
    probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    theirs = cleanlab.find_label_issues(
        given, probability, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    assert doubts(probability, given).row.tolist() == theirs.tolist()


def test_folds_hold_whole_clusters_and_every_class() -> None:
    classes = np.arange(300) % 3
    clusters = np.arange(300) // 6 * 6
    fold = folds(classes, clusters, 0)
    assert all(len(set(fold[clusters == one])) == 1 for one in set(clusters.tolist()))
    assert set(fold.tolist()) == set(range(FOLDS))
    assert (folds(classes, clusters, 0) == fold).all() and (folds(classes, clusters, 1) != fold).any()


def test_no_text_is_judged_by_a_model_that_saw_it() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in rng.integers(0, 5000, 8)) for _ in range(300)]
    classes = rng.integers(0, 2, 300)
    probability = out_of_fold(texts, classes, np.arange(300), 0)
    accuracy = (probability.argmax(axis=1) == classes).mean()
    assert 0.35 < accuracy < 0.65, "random labels can only be known by having seen them"
    assert probability.sum(axis=1) == pytest.approx(np.ones(300), abs=1e-5)


def test_calibration_sharpens_what_is_right_and_flattens_what_is_not() -> None:
    probability = np.full((100, 2), 0.3)
    probability[:, 0] = 0.7
    sure = calibrated(probability, np.zeros(100, dtype=int))
    unsure = calibrated(probability, np.arange(100) % 2)
    assert sure[0, 0] > 0.85 and unsure[0, 0] < 0.7


def test_spelling_keys_keep_numbers_apart() -> None:
    assert len({spelling_key(one) for one in ["Card Arrival", "card_arrival", "CARD-ARRIVAL ", "cardArrival"]}) == 1
    assert len({spelling_key(one) for one in ["1-2", "12", "-1", "1", "v1 2", "v12"]}) == 6


def test_labels_let_go_of_prose() -> None:
    labels = Labels()
    for position in range(100):
        labels.add(position, f"a long answer number {position} " * 9)
    assert not labels.are_labels and not len(labels.codes)


def test_a_value_is_set_where_the_path_says() -> None:
    text = '{"a.b": {"c": "x"}, "d": ["é"]}'
    assert with_value(text, "a.b.c", "y") == '{"a.b": {"c": "y"}, "d": ["é"]}'
    assert with_value('{"a":"x"}', "a", "y") == '{"a":"y"}'
