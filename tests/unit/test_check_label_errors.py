"""Confident learning finds planted flips, keeps like rows in one fold, and proposes without changing anything."""

import json
from dataclasses import replace

import numpy as np
import pytest
from deafness import longest_deaf_seconds
from hypothesis import given
from hypothesis import strategies as st

from luthier.core.types import Conversation, Finding, Message, Row
from luthier.data import out_of_fold as out_of_fold_module
from luthier.data.answers_kind import Labels, spelling_key, with_value
from luthier.data.checking import context_of
from luthier.data.checks import label_errors
from luthier.data.checks.label_errors import Check
from luthier.data.confident import confident_classes, doubts, thresholds
from luthier.data.examine import examine
from luthier.data.labelled import Labelled, sampled_positions, within
from luthier.data.normal import answer
from luthier.data.out_of_fold import (
    FOLDS,
    LONGEST_TEXT,
    calibrated,
    folds,
    ngram_weights,
    num_affordable,
    num_classes_affordable,
    out_of_fold,
)

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


def test_where_a_label_has_few_rows_its_doubts_are_hints() -> None:
    rows, _ = rows_with_flips(64, 0.1)
    found = [one for one in find(rows) if one.repairs]
    assert found and all(one.severity == "info" and one.confidence < 0.5 for one in found)


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
    probability = out_of_fold(ngram_weights(texts), classes, np.arange(300), 8, 0)
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


@given(st.floats(1, 100_000), st.integers(2, 5_000))
def test_the_work_is_bounded_whatever_the_rows_and_labels_are(mean_length: float, num_classes: int) -> None:
    rows, classes = num_affordable(mean_length, num_classes), num_classes_affordable(mean_length)
    characters = min(mean_length, LONGEST_TEXT)
    ngrams = characters * (0.35 if mean_length > 300 else 2.5)
    assert rows * characters <= 10_000_000
    assert rows * 0.8 * ngrams * 8 <= 200_000_000, "one class is fitted in one call, which Ctrl-C waits for"
    assert rows * 0.8 * ngrams * 8 * num_classes * FOLDS <= 8_000_000_000
    if num_classes <= classes:
        assert rows >= min(20 * num_classes, 10_000_000 / characters) - 1, "rows enough of each class"


def test_more_rows_than_there_is_time_for_are_sampled_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, right = rows_with_flips(900, 0.1)
    monkeypatch.setattr(out_of_fold_module, "_MOST_CHARACTERS", 400 * 45)
    summary, *found = find(rows)
    seen = int(summary.detail.split(" labels")[0].rpartition(" of ")[2])
    assert 300 < seen < 500 and "a sample of 900" in summary.detail
    assert len([one for one in found if one.rows[0] in right]) > 0.1 * seen * 0.7


def test_more_labels_than_there_is_time_for_leave_the_commonest(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = rows_with_flips(400, 0.1)
    rare = [row(2000 + i, f"strange question {i % 7} of kind k{i % 9}", f"rare {i % 9}") for i in range(90)]
    monkeypatch.setattr(label_errors, "num_classes_affordable", lambda mean_length: 4)
    summary, *found = find([*rows, *rare])
    assert "the 4 commonest of 13 labels" in summary.detail
    assert found and not any(one.rows[0] in {other.id for other in rare} for one in found)


def test_labels_at_several_paths_share_the_time() -> None:
    position, classes = np.arange(1000), np.arange(1000) % 10
    wide = Labelled("wide", position, np.arange(1000) % 100, [f"w{n}" for n in range(100)], 100, 1000)
    narrow = Labelled("narrow", position, classes, [f"n{n}" for n in range(10)], 10, 1000)
    kept_wide, kept_narrow = within([wide, narrow], 50)
    assert len(kept_narrow.names) == 10 and len(kept_wide.names) == 40
    assert len(kept_wide.position_N) == 400 and kept_wide.class_N.max() == 39
    assert len(sampled_positions([wide, narrow], 100, 0)) == 100
    # Of every third row, a class has three or four: those with three are no longer there, the others count anew.
    few = kept_wide.among(np.arange(0, 1000, 3), 4)
    assert few.names == [f"w{n}" for n in range(0, 40, 3)]
    assert np.bincount(few.class_N).tolist() == [4] * len(few.names)


def test_labels_that_do_not_follow_from_the_words_are_not_doubted() -> None:
    rng = np.random.default_rng(7)
    rows = [row(i, " ".join(rng.choice(FILLERS, 6)), str(rng.choice(["yes", "no"]))) for i in range(300)]
    (finding,) = find(rows)
    assert finding.kind == "untold" and finding.severity == "info" and not finding.rows and not finding.repairs
    assert "do not follow from the words" in finding.detail


def test_no_step_of_the_fits_keeps_ctrl_c_waiting() -> None:
    rng = np.random.default_rng(1)
    rows = [
        row(i, " ".join(f"w{word}" for word in rng.integers(0, 3000, 12)), "odd" if i % 2 else "even")
        for i in range(6_000)
    ]
    assert longest_deaf_seconds(lambda: find(rows)) < 1.0


def test_a_small_sample_is_fetched_and_not_looked_for_in_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = rows_with_flips(1200, 0.2)
    monkeypatch.setattr(out_of_fold_module, "_MOST_CHARACTERS", 120 * 45)
    told = find(rows)
    assert "a sample of 1,200" in told[0].detail
    unread = replace(context_of(rows), read=lambda: pytest.fail("all rows were read again"))
    assert examine({"label_errors": Check(unread)}, rows)["label_errors"] == told
