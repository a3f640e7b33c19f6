"""The split: no leak, nothing moves, everything is accounted for."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.config.settings import SplitSettings
from luthier.core.errors import DataError, SettingsError
from luthier.data.cluster import link
from luthier.data.deal import Deal, Origin, Shares, held_share
from luthier.data.normal import normalized
from luthier.data.split import Assignment, RowKey, split

DATA = Path(__file__).parents[2].parent / "shared" / "data"
HALF = SplitSettings(test_share=0.3, validation_share=0.2)


def key(number: int, question: str, group: str | None = None, origin: Origin = "data", answer: str = "a") -> RowKey:
    return RowKey(f"{origin}-{number}", question, answer, group, origin)


def parts(keys: list[RowKey], chosen: SplitSettings = HALF, seed: int = 0) -> Assignment:
    origins = {row.origin for row in keys}
    return split(keys, chosen, seed, has_test="test" in origins, has_validation="validation" in origins)


def shingles(text: str) -> set[str]:
    padded = f" {normalized(text)} "
    return {padded[i : i + 5] for i in range(max(1, len(padded) - 4))}


def alike(left: RowKey, right: RowKey) -> bool:
    a, b = shingles(left.question), shingles(right.question)
    in_group = left.group is not None and left.group == right.group
    return in_group or normalized(left.question) == normalized(right.question) or len(a & b) / len(a | b) >= 0.8


# Few words, many repeats: questions that are equal, nearly equal and chained come up all the time.
WORDS = ["account", "balance", "transfer", "card", "money", "pending", "refund", "cash"]
QUESTION = st.lists(st.sampled_from(WORDS), min_size=4, max_size=12).map(" ".join)
ROWS = st.lists(st.tuples(QUESTION, st.sampled_from([None, None, None, "g", "h"])), min_size=6, max_size=40)


def made(rows: list[tuple[str, str | None]]) -> list[RowKey]:
    # A few questions unlike all others, so that there is always something to hold out.
    filler = [key(900 + i, f"{i}{i} zebra{i} quagga{i} okapi{i}") for i in range(12)]
    edited = [
        key(500 + i, text.replace("card", "cart") + " now", group) for i, (text, group) in enumerate(rows) if i % 2
    ]
    return [*filler, *(key(i, text, group) for i, (text, group) in enumerate(rows)), *edited]


@given(ROWS, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_nothing_alike_lies_on_two_sides(rows: list[tuple[str, str | None]], seed: int) -> None:
    keys = made(rows)
    dealt = parts(keys, seed=seed)
    kept = [(row, part) for row, part in zip(keys, dealt.part) if part is not None]
    for place, (left, side) in enumerate(kept):
        for right, other in kept[place + 1 :]:
            assert side == other or not alike(left, right)


@given(ROWS, ROWS, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_appended_rows_move_no_old_one(
    rows: list[tuple[str, str | None]], more: list[tuple[str, str | None]], seed: int
) -> None:
    old = made(rows)
    new = [*old, *(key(2000 + i, text, group) for i, (text, group) in enumerate(more))]
    before, after = parts(old, seed=seed), parts(new, seed=seed)
    assert after.part[: len(old)] == before.part
    assert after.rule[: len(old)] == before.rule


@given(ROWS)
@settings(max_examples=20, deadline=None)
def test_the_same_rows_are_dealt_the_same_way_and_all_are_accounted_for(rows: list[tuple[str, str | None]]) -> None:
    keys = made(rows)
    first, second = parts(keys), parts(keys)
    assert first.part == second.part and first.certificate == second.certificate
    assert np.array_equal(first.cluster, second.cluster)
    for place, (part, rule, touched) in enumerate(zip(first.part, first.rule, first.touched)):
        assert (part is None) == (rule is not None) == (touched is not None) == (first.cluster[place] == -1)
    counts = first.certificate["rows"]
    assert isinstance(counts, dict) and counts == {part: first.part.count(part) for part in counts}


def different(count: int) -> list[RowKey]:
    rng = random.Random(4)
    return [
        key(i, " ".join("".join(rng.choices("abcdefghijk", k=6)) for _ in range(8)), answer=str(i))
        for i in range(count)
    ]


def test_the_seed_changes_the_sides_and_shares_are_met() -> None:
    keys = different(3000)
    first, second = parts(keys, SplitSettings(), 1), parts(keys, SplitSettings(), 2)
    sizes = Counter(first.part)
    assert abs(sizes["test"] - 300) < 70 and abs(sizes["validation"] - 150) < 50
    both = sum(a == b == "test" for a, b in zip(first.part, second.part))
    assert both < sizes["test"] / 2


def test_distinct_rows_in_another_order_get_the_same_parts() -> None:
    keys = different(400)
    turned = [*keys[:10], *reversed(keys[10:])]
    one = dict(zip((row.id for row in keys), parts(keys).part))
    two = dict(zip((row.id for row in turned), parts(turned).part))
    assert one == two


def test_a_row_that_bridges_two_sides_is_set_aside() -> None:
    keys = [RowKey(row.id, row.question, "a", f"g{i}" if i < 10 else None) for i, row in enumerate(different(60))]
    before = parts(keys)
    trained = next(i for i in range(10) if before.part[i] == "train")
    tested = next(i for i in range(10, 60) if before.part[i] == "test")
    bridge = RowKey("bridge", keys[tested].question.upper() + "!", "a", keys[trained].group)
    after = parts([*keys, bridge])
    assert after.part == [*before.part, None]
    assert after.rule[-1] == "bridges-two-sides"
    assert after.touched[-1] in (trained, tested)
    assert after.certificate["set_aside"] == {"bridges-two-sides": 1}


def test_a_group_stays_together() -> None:
    keys = [RowKey(row.id, row.question, "a", f"customer {i % 20}") for i, row in enumerate(different(300))]
    dealt = parts(keys)
    sides: dict[str | None, set[str | None]] = {}
    for row, part in zip(keys, dealt.part):
        sides.setdefault(row.group, set()).add(part)
    assert all(len(one) == 1 for one in sides.values())
    assert len({next(iter(one)) for one in sides.values()}) == 3
    assert len(set(dealt.cluster.tolist())) == 20


def test_the_users_test_rows_stay_whole_and_overlaps_leave_training() -> None:
    data = different(100)
    tests = [key(i, row.question.upper(), origin="test") for i, row in enumerate(data[:5])]
    tests.append(key(9, data[0].question, origin="test"))
    checks = [key(1, data[0].question, origin="validation"), key(2, data[7].question + "?", origin="validation")]
    dealt = parts([*data, *tests, *checks])
    assert dealt.part[100:106] == ["test"] * 6
    assert dealt.rule[:5] == ["overlaps-test"] * 5
    assert dealt.rule[7] == "overlaps-validation"
    assert dealt.rule[106] == "overlaps-test" and dealt.part[107] == "validation"
    assert dealt.part[:100].count("train") == 94
    assert dealt.certificate["set_aside"] == {"overlaps-test": 6, "overlaps-validation": 1}
    assert dealt.touched[1] == 101


@pytest.mark.parametrize("seed", range(30))
def test_ten_questions_fill_every_part(seed: int) -> None:
    dealt = parts(different(10), SplitSettings(), seed)
    assert set(dealt.part) == {"train", "validation", "test"}
    assert dealt.part.count("train") >= 5


def test_the_cap_holds_and_old_rows_stay_while_rows_grow_a_little() -> None:
    chosen = SplitSettings(test_rows=100, validation_rows=50)
    keys = different(2030)
    before, after = parts(keys[:2000], chosen), parts(keys, chosen)
    assert abs(Counter(before.part)["test"] - 100) < 30
    assert after.part[:2000] == before.part


def test_a_falling_share_gives_held_out_rows_to_training_only() -> None:
    chosen = SplitSettings(test_rows=30, validation_rows=15)
    keys = different(1600)
    few, many = parts(keys[:400], chosen), parts(keys, chosen)
    moved = {(old, new) for old, new in zip(few.part, many.part) if old != new}
    assert moved and moved <= {("test", "train"), ("validation", "train")}


@pytest.mark.parametrize(
    ("num_rows", "expected"), [(0, 0.1), (500, 0.1), (10_000, 0.1), (10_003, 0.1), (20_000, 0.05), (80_000, 0.0125)]
)
def test_held_share(num_rows: int, expected: float) -> None:
    assert held_share(0.1, 1000, num_rows) == pytest.approx(expected)
    assert held_share(0.1, 0, num_rows) == 0


def test_no_share_holds_nothing_out() -> None:
    dealt = parts(different(20), SplitSettings(test_share=0, validation_share=0))
    assert dealt.part == ["train"] * 20


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([], "no row to train on"),
        ([key(1, "hello")], "every one of the 1 rows asks the same question"),
        ([key(i, "hello", answer=str(i)) for i in range(30)], "every one of the 30 rows asks the same question"),
        ([key(i, "tell me where my new card is" + "?" * i + " ok" * (i % 2)) for i in range(9)], "nearly the same"),
        ([key(i, row.question, "one") for i, row in enumerate(different(30))], "shares one group"),
        ([key(1, "hello"), key(2, "something else")], "at least 3 are needed"),
        ([key(1, "hello"), key(2, "Hello!", origin="test")], "nothing is left to train"),
        ([*[key(i, "hello") for i in range(200)], *different(8)], "200 of 208 rows"),
    ],
)
def test_what_cannot_be_held_out_honestly_is_refused(keys: list[RowKey], message: str) -> None:
    with pytest.raises(DataError, match=message):
        parts(keys, SplitSettings())


def test_shares_that_leave_nothing_to_train_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"split\.test_share"):
        parts(different(20), SplitSettings(test_share=0.7, validation_share=0.4))


def test_what_banding_missed_is_found_by_exact_search_and_set_aside() -> None:
    keys = different(80)
    keys += [key(1000 + i, row.question + " ok") for i, row in enumerate(keys)]
    links = link([row.question for row in keys], 0.8)
    assert len(links.left_P) == 80
    nothing = np.empty(0, dtype=np.int64)
    deal = Deal(keys, replace(links, left_P=nothing, right_P=nothing), Shares(0.3, 0.2), frozenset(), seed=0)
    deal.run()
    torn = {i for i in range(80) if deal.part[i] != deal.part[i + 80]}
    assert len(torn) > 10
    assert deal.set_aside_crossings(0.8) == len(torn)
    assert {row for row, part in enumerate(deal.part) if part is None} == {i + 80 for i in torn}
    assert not list(deal.crossings(0.8))


def read_keys(path: Path, origin: Origin = "data") -> list[RowKey]:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [key(i, record["text"], origin=origin, answer=record["label"]) for i, record in enumerate(records, 1)]


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_planted_leaks_are_found_and_nothing_else_is_taken() -> None:
    planted = json.loads((DATA / "dirty" / "MANIFEST.json").read_text(encoding="utf-8"))["files"]["leak_test.jsonl"]
    train, test = read_keys(DATA / "dirty" / "leak_train.jsonl"), read_keys(DATA / "dirty" / "leak_test.jsonl", "test")
    dealt = parts([*train, *test], SplitSettings())
    found = {place + 1 for place, rule in enumerate(dealt.rule) if rule == "overlaps-test"}
    assert found == {issue["train_line"] for issue in planted["issues"]}
    assert dealt.part[len(train) :] == ["test"] * len(test)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("task", ["banking77", "snips"])
def test_a_real_task_loses_next_to_nothing(task: str) -> None:
    lines = (DATA / "tasks" / task / "train.jsonl").read_text(encoding="utf-8").splitlines()
    keys = [key(i, json.loads(line)["text"]) for i, line in enumerate(lines)]
    dealt = parts(keys, SplitSettings())
    sizes = Counter(dealt.part)
    assert sizes[None] < 0.001 * len(keys)
    assert abs(sizes["test"] - 1000) < 100 and abs(sizes["validation"] - 500) < 75
    assert not any(dict(dealt.certificate["on_two_sides"]).values())  # type: ignore[arg-type]
