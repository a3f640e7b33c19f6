"""Graders of wording do what their settings say: patterns, phrases, lengths, house rules, a voice."""

import json
from pathlib import Path

import pytest

from luthier.core.errors import SettingsError
from luthier.core.types import Grade, Grader
from luthier.graders import contains, length, number, policy, regex, style
from luthier.graders.measures.prose import habits, sentences

STYLE = Path(__file__).parents[2].parent / "shared" / "data" / "tasks" / "style" / "responses.jsonl"


def score(grader: Grader, completion: str, wanted: str = "", prompt: str = "") -> float:
    return grader.grade(prompt, completion, wanted).score


def test_a_pattern_may_match_anywhere_or_the_whole_answer() -> None:
    assert score(regex.Grader(pattern=r"\d{3}"), "call 112 now") == 1
    assert score(regex.Grader(pattern=r"\d{3}", where="whole"), "call 112 now") == 0
    assert score(regex.Grader(pattern=r"\d{3}", where="whole"), " 112\n") == 1
    assert score(regex.Grader(pattern="yes", ignore_case=True), "YES") == 1
    assert score(regex.Grader(pattern="yes"), "YES") == 0


def test_what_a_pattern_captures_is_compared_with_the_wanted_text() -> None:
    grader = regex.Grader(pattern=r"answer: (\w+)", compare=True)
    assert grader.needs_answer
    assert score(grader, "Thinking ... answer: blue.", "blue") == 1
    assert score(grader, "Thinking ... answer: red.", "blue") == 0
    assert score(grader, "blue", "blue") == 0


def test_a_pattern_that_would_run_for_years_is_given_up() -> None:
    grader = regex.Grader(pattern="(a|aa)+$")
    grade = grader.grade("", "a" * 5000 + "b", "")
    assert (grade.score, grade.marks["found"]) == (0, "too slow")
    assert grader.metrics([grade])["too_slow"] == 1


def test_a_broken_pattern_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"regex\.pattern: '\(' is not a regular expression: missing \)"):
        regex.Grader(pattern="(")


@pytest.mark.parametrize(
    ("completion", "wanted", "right"),
    [
        ("The answer is  New\nYork City.", "new york", True),
        ("category", "cat", False),
        ("cat, dog", "cat", True),
        ("anything", "", True),
        ("", "cat", False),
        ("it costs 100 %!", "100 %", True),
        ("category cat", "cat", True),
    ],
)
def test_an_answer_contains_the_wanted_text_as_whole_words(completion: str, wanted: str, right: bool) -> None:
    assert score(contains.Grader(), completion, wanted) == float(right)


def test_given_texts_must_all_be_there_or_one_of_them() -> None:
    every, some = contains.Grader(texts=("red", "blue")), contains.Grader(texts=("red", "blue"), need="any")
    assert not every.needs_answer
    assert (score(every, "red and blue"), score(every, "red"), score(some, "red"), score(some, "green")) == (1, 0, 1, 0)
    metrics = every.metrics([every.grade("", text, "") for text in ("red", "blue red", "none", "blue")])
    assert metrics == {"contains": 0.25, "missing": {"red": 0.5, "blue": 0.5}}
    assert score(contains.Grader(whole_words=False), "category", "cat") == 1
    assert score(contains.Grader(ignore_case=False), "Cat", "cat") == 0


def test_length_is_within_bounds_or_near_the_wanted_one() -> None:
    bounded = length.Grader(least=2, most=3)
    assert [score(bounded, text) for text in ("a", "a b", "a b c", "a b c d")] == [0, 1, 1, 0]
    assert not bounded.needs_answer and length.Grader().needs_answer
    assert score(length.Grader(), "a b", "a b c d") == 0.5
    assert score(length.Grader(), "", "") == 1
    metrics = bounded.metrics([bounded.grade("", text, "") for text in ("a", "a b", "a b c d", "a b c d e")])
    assert metrics == {"mean_length": 3.0, "median_length": 3.0, "too_short": 0.25, "too_long": 0.5}
    with pytest.raises(SettingsError, match="no answer has at least 3 and at most 2 words"):
        length.Grader(least=3, most=2)


@pytest.mark.parametrize(("unit", "wanted"), [("characters", 25), ("words", 5), ("sentences", 3), ("lines", 2)])
def test_length_counts_what_it_is_asked_to(unit: str, wanted: int) -> None:
    text = "One. Two three!\n\nfour, (5"
    assert length.Grader(least=0, unit=unit).grade("", text, "").marks["length"] == wanted  # type: ignore[arg-type]


def test_a_number_may_be_off_by_its_tolerance() -> None:
    assert score(number.Grader(tolerance=0.01), "about 99.5", "100") == 1
    assert score(number.Grader(tolerance=0.01), "about 98", "100") == 0
    assert score(number.Grader(), "100.0001", "100") == 0


RULES = """
rules:
  - name: greets
    must_say: [hello, good day]
  - name: no promises
    must_not_say: [guarantee, "100 %"]
  - name: asks for the order number
    must_match: 'order number|\\b[A-Z]{2}\\d{6}\\b'
    when: refund
  - name: no shouting
    must_not_match: '!!'
"""


@pytest.fixture
def house_rules(tmp_path: Path) -> policy.Grader:
    (tmp_path / "rules.yaml").write_text(RULES)
    return policy.Grader(rules=tmp_path / "rules.yaml")


@pytest.mark.parametrize(
    ("prompt", "completion", "broken"),
    [
        ("hi", "Hello, how are you?", []),
        ("hi", "Good  day.", []),
        ("hi", "How are you?", ["greets"]),
        ("hi", "Hello, we GUARANTEE it.", ["no promises"]),
        ("hi", "Hello, guaranteed by nobody", []),
        ("I want a refund", "Hello, sorry.", ["asks for the order number"]),
        ("I want a refund", "Hello, for AB123456, done.", []),
        ("I want a Refund", "No!!", ["greets", "asks for the order number", "no shouting"]),
    ],
)
def test_a_policy_names_the_rules_that_an_answer_breaks(
    house_rules: policy.Grader, prompt: str, completion: str, broken: list[str]
) -> None:
    grade = house_rules.grade(prompt, completion, "")
    kept = grade.marks["kept"]
    assert isinstance(kept, dict)
    assert [name for name, is_kept in kept.items() if not is_kept] == broken
    assert grade.score == float(not broken)


def test_a_policy_counts_where_a_rule_applied_and_was_broken(house_rules: policy.Grader) -> None:
    answered = [("hi", "Hello"), ("a refund", "Hello"), ("a refund", "Hi, order number?")]
    metrics = house_rules.metrics([house_rules.grade(prompt, completion, "") for prompt, completion in answered])
    assert metrics["rules"]["asks for the order number"] == {"applied": 2, "broken": 1}  # type: ignore[index, call-overload]
    assert metrics["rules"]["greets"] == {"applied": 3, "broken": 1}  # type: ignore[index, call-overload]
    assert metrics["kept_all"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ("rules: []", "expected `rules:` with a list of rules"),
        ("rules:\n  - must_say: x", "rule 1: `name` is missing"),
        ("rules:\n  - name: a\n    must_sy: x", "there is no 'must_sy'. Did you mean 'must_say'?"),
        ("rules:\n  - name: a", "it demands nothing"),
        ("rules:\n  - name: a\n    must_say: 3", "must be a text or a list of texts, found 3"),
        ("rules:\n  - name: a\n    must_match: '('", "is not a regular expression"),
        ("rules:\n  - {name: a, must_say: x}\n  - {name: a, must_say: y}", "the name 'a' is given twice"),
    ],
)
def test_a_policy_that_cannot_be_used_says_why(tmp_path: Path, rules: str, words: str) -> None:
    (tmp_path / "rules.yaml").write_text(rules)
    with pytest.raises(SettingsError) as caught:
        policy.Grader(rules=tmp_path / "rules.yaml")
    assert words in str(caught.value)


def test_sentences_end_with_their_marks_or_their_line() -> None:
    assert sentences('He said "stop!" Then he left. Why?\nA list\n- one') == [
        'He said "stop!', "Then he left.", "Why?", "A list", "- one",
    ]  # fmt: skip


def test_habits_tell_plain_from_ornate() -> None:
    plain, ornate = (
        habits("I can't. Stop it! Why not?"),
        habits("Notwithstanding considerable institutional opposition."),
    )
    assert plain["readability"] > 90 > 0 > ornate["readability"]
    assert plain["contractions"] > 0 == ornate["contractions"]
    assert plain["exclamation_marks"] == pytest.approx(1 / 3)


def test_a_voice_is_told_from_others_once_it_is_learned() -> None:
    formal = [f"We regret that your order {n} is delayed; it will arrive on Monday, as was agreed." for n in range(20)]
    chatty = [f"Oh no! I'm so sorry!! Order {n} is late, but hey, it'll be there soon :)" for n in range(20)]
    unlearned = style.Grader()
    grader = unlearned.learned(formal)
    assert not grader.needs_answer and unlearned.needs_answer
    same, other = ([grader.grade("", text, "x") for text in texts] for texts in (formal, chatty))
    assert min(grade.score for grade in same) > 0.9 > 0.7 > max(grade.score for grade in other)
    metrics = grader.metrics(other)
    assert metrics["distance"] > 1 > 0.1 > grader.metrics(same)["distance"]  # type: ignore[operator]
    assert "exclamation_marks" in metrics["farthest"]  # type: ignore[operator]


def test_a_voice_comes_from_a_file_of_examples(tmp_path: Path) -> None:
    (tmp_path / "voice.txt").write_text("Hello there, my friend!\n\nHello again, my friend!\n")
    grader = style.Grader(examples=tmp_path / "voice.txt")
    assert grader.learned(["SOMETHING ELSE"]) is grader
    assert score(grader, "Hello once more, my friend!") > score(grader, "42")
    with pytest.raises(SettingsError, match="cannot be read"):
        style.Grader(examples=tmp_path / "none.txt")


@pytest.mark.skipif(not STYLE.exists(), reason=f"{STYLE} is not there")
@pytest.mark.parametrize("persona", ["professional", "friendly", "humorous"])
def test_the_voice_of_a_persona_is_nearest_to_itself(persona: str) -> None:
    """Half of a persona's answers teach the voice; the other half is nearer to it than the other personas' answers."""
    texts: dict[str, list[str]] = {}
    for line in STYLE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts.setdefault(row["persona"], []).append(row["response"])
    grader = style.Grader().learned(texts[persona][::2])
    distances = {name: _distance(grader, rows[1::2]) for name, rows in texts.items()}
    assert min(distances, key=distances.__getitem__) == persona, distances


def _distance(grader: style.Grader, rows: list[str]) -> float:
    distance = grader.metrics([Grade(0, grader.grade("", text, "").marks) for text in rows])["distance"]
    assert isinstance(distance, float)
    return distance
