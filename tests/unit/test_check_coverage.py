"""Coverage: what is rare, missing from the test, redundant or flat is said; an even set gives hints only."""

import json
import math
import random
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from deafness import longest_deaf_seconds

from luthier.core.types import Conversation, Finding, Message, Row
from luthier.data.checking import Context, context_of
from luthier.data.checks.coverage import Check
from luthier.data.edge_cases import EDGE_CASES, edge_cases
from luthier.data.examine import examine
from luthier.data.learning_curve import Curve, learning_curve
from luthier.data.normal import normalized, question
from luthier.data.regions import find_regions
from luthier.data.sampled import Sampled

TASKS = Path(__file__).parents[2].parent / "shared" / "data" / "tasks"
TOPICS = {
    "weather": "rain sun wind storm cloud snow forecast umbrella degrees cold",
    "banking": "card account transfer balance fee cash refund limit payment pin",
    "travel": "flight hotel train ticket gate luggage visa passport seat delay",
    "kitchen": "oven recipe butter onion soup bake fry salt bread knife",
}


def row(line: int, question: str, answer: str, **turns: object) -> Row:
    return Row(
        f"r{line}", "a.jsonl", line, line, Conversation((Message("user", question), Message("assistant", answer)))
    )


def topical(count: int, seed: int = 0, topics: tuple[str, ...] = tuple(TOPICS), first: int = 0) -> list[Row]:
    rng = random.Random(seed)
    fill = [f"filler{number}" for number in range(200)]
    rows = []
    for place in range(count):
        topic = topics[place % len(topics)]
        words = rng.choices(TOPICS[topic].split(), k=5) + rng.choices(fill, k=4)
        rng.shuffle(words)
        rows.append(row(first + place, " ".join(words), topic))
    return rows


def find(rows: list[Row], num_test: int = 0) -> dict[str, Finding]:
    """The last `num_test` rows are the user's own test file."""
    context: Context = replace(context_of(rows), num_of={"data": len(rows) - num_test, "test": num_test})
    check = Check(context)
    seen = [finding for position, one in enumerate(rows) for finding in check.see(position, one)]
    return {finding.kind: finding for finding in [*seen, *check.end()]}


def test_an_even_set_gives_hints_only() -> None:
    found = find([*topical(600), *topical(150, seed=1, first=1000)], num_test=150)
    assert {finding.severity for finding in found.values()} == {"info"}
    assert {"regions", "more-rows"} <= set(found)


def test_a_label_with_few_rows_is_named_with_its_rows() -> None:
    rows = [*topical(400), row(900, "how do I tune a violin", "music"), row(901, "buy guitar strings", "Music")]
    finding = find(rows)["rare-label"]
    assert finding.rows == ("r900", "r901") and "'music' (2)" in finding.detail and finding.severity == "warning"


def test_a_label_that_nearly_all_rows_have_is_named() -> None:
    rows = [*topical(400, topics=("weather",)), *topical(40, topics=("banking",), first=500)]
    assert "91% of the training rows say 'weather'" in find(rows)["dominant-label"].detail


def test_what_the_test_file_lacks_is_named() -> None:
    train = [
        *topical(400),
        *(row(600 + place, f"what does {place} plus {place} make 7 times", "banking") for place in range(80)),
    ]
    test = topical(120, seed=2, topics=("weather", "banking"), first=2000)
    found = find([*train, *test], num_test=120)
    assert (
        "'travel' (100 training rows)" in found["untested-label"].detail
        and "'kitchen'" in found["untested-label"].detail
    )
    assert "untested-region" in found
    clean = [
        row(
            one.line,
            one.content.messages[0].content.replace("filler", "fill").translate(str.maketrans("", "", "0123456789")),
            "banking",
        )
        for one in test
    ]  # type: ignore[union-attr]
    assert "questions with numbers" in find([*train, *clean], num_test=120)["untested-question"].detail


def test_what_only_the_test_asks_is_named() -> None:
    test = topical(60, seed=2, topics=("travel",), first=2000)
    found = find([*topical(400, topics=("weather", "banking")), *test], num_test=60)
    assert "'travel' (60 test rows)" in found["untrained-label"].detail


def test_thin_regions_and_redundant_rows_are_named() -> None:
    rng = random.Random(5)
    strays = [row(5000 + place, f"zebra quagga okapi tapir {place}", "kitchen") for place in range(6)]
    rows = topical(900)
    copies = []
    for place in range(60):
        words = str(question(rows[place])).split()
        rng.shuffle(words)
        copies.append(row(6000 + place, " ".join(words), rows[place].content.messages[1].content))  # type: ignore[union-attr]
    found = find([*rows, *strays, *copies])
    assert {f"r{6000 + place}" for place in range(60)} <= set(found["redundant"].rows)
    assert len(found["redundant"].rows) < 400
    assert {f"r{5000 + place}" for place in range(6)} <= set(found["thin-region"].rows)


def test_free_text_answers_cannot_tell_and_say_so() -> None:
    rng = random.Random(1)
    rows = [
        row(line, str(question(one)), " ".join(rng.choices("abcdefghij", k=12)) + f" {line}")
        for line, one in enumerate(topical(300))
    ]
    assert "cannot tell, as the answers are no labels" in find(rows)["more-rows"].detail


def test_too_few_rows_say_nothing() -> None:
    assert find([]) == {}
    assert "regions" not in find(topical(20))


def test_the_curve_rises_where_rows_teach_and_is_flat_where_they_do_not() -> None:
    rng = random.Random(3)
    vocabulary = [f"w{number}" for number in range(1500)]
    texts = [" ".join(rng.choices(vocabulary, k=8)) for _ in range(3000)]
    taught = [str(sum(int(word[1:]) % 2 for word in text.split()) > 4) for text in texts]
    steep = learning_curve(texts, taught, range(3000), 0)
    flat = learning_curve(texts, [rng.choice(["a", "b"]) for _ in texts], range(3000), 0)
    assert steep is not None and flat is not None
    assert steep.right[-1] > steep.right[0] + 0.08 and steep.doubling < 0.9
    assert flat.doubling > 0.95 and flat.right[-1] < 0.6
    assert learning_curve(texts[:50], taught[:50], range(50), 0) is None
    assert (
        learning_curve(texts[:400], [str(number // 3) for number in range(400)], range(400), 0) is None
    )  # 3 rows a label


def test_a_curve_of_hard_labels_takes_no_more_rows_than_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.data.learning_curve._MOST_WORK", 1_500_000)
    rng = random.Random(4)
    texts = [" ".join(f"w{rng.randrange(3000)}" for _ in range(50)) for _ in range(800)]
    labels = [str(rng.randrange(30)) for _ in texts]
    curves: list[Curve | None] = []
    assert longest_deaf_seconds(lambda: curves.append(learning_curve(texts, labels, range(800), 0))) < 1
    assert curves[0] is not None and curves[0].rows[-1] == 500


def test_the_map_places_like_regions_near_each_other_and_every_sampled_row_in_one() -> None:
    rows = topical(1200)
    check = Check(context_of(rows))
    for position, one in enumerate(rows):
        list(check.see(position, one))
    assert check.cluster_map() is None, "not before the end"
    list(check.end())
    drawn = check.cluster_map()
    assert drawn is not None and drawn.share == 1 and drawn.num_rows == len(rows)
    assert sorted(id for spot in drawn.spots for id in spot.rows) == sorted(one.id for one in rows)
    topic = {one.id: one.content.messages[1].content for one in rows}  # type: ignore[union-attr]
    near, far = [], []
    for one, two in combinations(drawn.spots, 2):
        distance = math.dist((one.x, one.y), (two.x, two.y))
        (near if topic[one.example] == topic[two.example] else far).append(distance)
    assert sum(near) / len(near) < 0.6 * sum(far) / len(far)
    assert all(0 <= value <= 1 for spot in drawn.spots for value in (spot.x, spot.y))
    assert all(not any(letter.isdigit() for letter in spot.words) for spot in drawn.spots)


def test_an_example_on_the_map_shows_no_private_data() -> None:
    rows = [
        row(line, f"{one.content.messages[0].content} write to jo.doe@example.org", "x")
        for line, one in enumerate(topical(400))
    ]  # type: ignore[union-attr]
    check = Check(context_of(rows))
    examine({"coverage": check}, rows)
    drawn = check.cluster_map()
    assert drawn is not None and all("@" not in spot.shown for spot in drawn.spots)


def test_doubling_follows_a_known_power_law() -> None:
    rows = [100, 200, 400, 800]
    curve = Curve(rows, [1 - 2 * count**-0.5 for count in rows])
    assert curve.doubling == pytest.approx(0.5**0.5)
    assert 1 - curve.after_doubling == pytest.approx(2 * 1600**-0.5)


@pytest.mark.skipif(not TASKS.is_dir(), reason="needs ../shared/data")
def test_the_forecast_of_the_curve_holds_on_banking77() -> None:
    lines = (TASKS / "banking77" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    random.Random(0).shuffle(records)
    texts, labels = [normalized(one["text"]) for one in records], [one["label"] for one in records]
    half = learning_curve(texts[:4000], labels[:4000], range(4000), 0)
    whole = learning_curve(texts[:8000], labels[:8000], range(8000), 0)
    assert half is not None and whole is not None
    assert half.after_doubling == pytest.approx(whole.right[-1], abs=0.03)


def test_regions_follow_the_topics() -> None:
    rows = topical(800)
    regions = find_regions([normalized(question(one)) for one in rows], 0)
    assert regions is not None
    pure = sum(
        max(sum(place % 4 == topic for place in members) for topic in range(4))
        for number in range(len(regions.sizes))
        if (members := [place for place in range(800) if regions.region_N[place] == number])
    )
    assert pure > 0.8 * len(rows)
    assert (regions.of([normalized(question(one)) for one in rows]) == regions.region_N).mean() > 0.95
    assert any(word in " ".join(regions.names) for word in TOPICS["travel"].split())
    assert find_regions(["", "a", "b c"] * 50, 0) is None


def test_a_sample_is_bounded_even_and_the_same_in_any_order() -> None:
    forward, backward = Sampled[int](1000), Sampled[int](1000)
    for number in range(20_000):
        forward.add(f"r{number}", number)
        backward.add(f"r{19_999 - number}", 19_999 - number)
    assert sorted(forward.values) == sorted(backward.values) and 400 <= len(forward.values) <= 1000
    assert len(forward.values) / forward.share == pytest.approx(20_000, rel=0.12)
    assert all(forward.wants(f"r{number}") for number in forward.values)


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ("help", {"of one or two words"}),
        ("what is 3 plus 4", {"with numbers"}),
        ("WHERE IS MY CARD NOW", {"written in capitals"}),
        ("see https://example.org please now", {"with a link"}),
        ("naïve question of a user", {"with letters beyond ASCII"}),
        ("first line of it\nsecond line", {"of several lines"}),
        ("x " * 1200, {"longer than 2,000 characters"}),
        ("an ordinary question of a user", set()),
    ],
)
def test_edge_cases(asked: str, kinds: set[str]) -> None:
    assert set(edge_cases(row(1, asked, "a"), asked)) == kinds <= set(EDGE_CASES)
