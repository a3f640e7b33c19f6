"""OpenAI's grader objects grade as their documentation says; what cannot be used here is refused by name."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chat_server import Answer, ChatServer

from luthier.core.errors import RunFailed, SettingsError
from luthier.core.types import JsonObject
from luthier.graders.making.expression import Expression
from luthier.graders.making.grading import destination
from luthier.graders.making.openai import grader_from
from luthier.graders.making.spec import grader_named
from luthier.graders.measures.sandbox import isolation_problem

OUTPUT = "{{sample.output_text}}"
ASKING: JsonObject = {
    "type": "score_model", "model": "large", "url": "http://127.0.0.1:1/v1",
    "input": [{"role": "user", "content": "Rate {{sample.output_text}} against {{item.reference}}."}],
}  # fmt: skip


def check(operation: str, reference: str = "{{item.answer}}", given: str = OUTPUT) -> JsonObject:
    return {"type": "string_check", "name": "check", "operation": operation, "input": given, "reference": reference}


def similarity(metric: str) -> JsonObject:
    return {"type": "text_similarity", "evaluation_metric": metric, "input": OUTPUT, "reference": "{{item.answer}}"}


def score(entry: JsonObject, completion: str, answer: str, prompt: str = "") -> float:
    return grader_from(entry, "grader").grade(prompt, completion, answer).score


@pytest.mark.parametrize(
    ("operation", "completion", "answer", "expected"),
    [
        ("eq", "Yes", "Yes", 1), ("eq", "yes", "Yes", 0), ("ne", "yes", "Yes", 1), ("ne", "Yes", "Yes", 0),
        ("like", "Oh Yes!", "Yes", 1), ("like", "oh yes!", "Yes", 0), ("ilike", "oh yes!", "Yes", 1), ("ilike", "no", "Yes", 0),
    ],
)  # fmt: skip
def test_string_checks(operation: str, completion: str, answer: str, expected: float) -> None:
    assert score(check(operation), completion, answer) == expected


def test_templates_reach_into_the_answer_and_the_wanted_answer() -> None:
    entry = check("eq", "{{ item.order.ids[1] }}", "{{sample.output_json.order}}")
    wanted = '{"order": {"ids": ["A", "B"]}}'
    assert score(entry, '{"order": "B"}', wanted) == 1
    assert score(entry, '{"order": "A"}', wanted) == 0
    grade = grader_from(entry, "grader").grade("", "no json", wanted)
    assert (grade.score, grade.marks["graded"]) == (0, False)
    assert score(check("eq", "{{item.prompt}} and {{item.answer}}"), "a and b", "b", "a") == 1


def test_the_only_other_field_of_an_item_is_the_wanted_answer() -> None:
    assert score(check("eq", "{{item.reference_answer}}"), "Yes", "Yes") == 1
    two = check("eq", "{{item.first}} {{item.second}}")
    assert grader_from(two, "grader").grade("", "a b", "a b").marks["graded"] is False
    assert score(two, "a b", '{"first": "a", "second": "b"}') == 1


@pytest.mark.parametrize(
    "metric", ["fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"]
)
def test_text_similarity_is_one_for_the_same_and_less_for_others(metric: str) -> None:
    text = "the cat sat on the mat today"
    assert score(similarity(metric), text, text) == pytest.approx(1)
    assert score(similarity(metric), "a dog", text) < 0.5


def test_a_threshold_is_counted() -> None:
    grader = grader_from(similarity("fuzzy_match") | {"pass_threshold": 0.8}, "grader")
    metrics = grader.metrics([grader.grade("", text, "abcde") for text in ("abcde", "abcdX", "xyz", "abcd")])
    assert metrics["passed"] == 0.75
    assert metrics["graded"] == 1


def test_a_multi_grader_calculates_from_its_graders() -> None:
    entry: JsonObject = {
        "type": "multi",
        "graders": {"same": check("eq"), "alike": similarity("fuzzy_match")},
        "calculate_output": "0.25 * same + 0.75 * min(alike, 1) ^ 2",
    }
    assert score(entry, "ab", "ab") == 1
    assert score(entry, "ab", "abab") == pytest.approx(0.75 * (2 / 3) ** 2)


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("1 + 2 * 3", 7), ("-(a - 3) / 2", 1), ("max(a, b, 5)", 5), ("floor(a + 0.7) ^ 2", 1), ("sqrt(b) + exp(0) + abs(-a)", 4),
        ("a / (b - 4)", None), ("log(0 - a)", None), ("9 ^ 9 ^ 9", None), ("exp(exp(exp(9)))", None),
    ],
)  # fmt: skip
def test_formulas_are_plain_arithmetic(formula: str, value: float | None) -> None:
    assert Expression(formula, ("a", "b"), "x").value({"a": 1.0, "b": 4.0}) == value


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("", "is not a formula"),
        ("a +", "is not a formula"),
        ("c", "there is no grader 'c'"),
        ("__import__('os')", "is not allowed"),
        ("a.real", "is not allowed"),
        ("[a]", "is not allowed"),
        ("a if b else 1", "is not allowed"),
        ("min()", "is not allowed"),
        ("'a' * 9", "is not a number"),
        ("(" * 2000, "longer than 1000"),
    ],
)
def test_a_formula_of_anything_else_is_refused(formula: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Expression(formula, ("a", "b"), "x")
    assert words in str(caught.value)


@pytest.mark.skipif(isolation_problem() is not None, reason="no isolation")
def test_a_python_grader_runs_in_the_sandbox() -> None:
    source = "def grade(sample, item):\n    return 0.5 * (sample['output_text'] == item['reference']) + 0.25 * len(item['prompt'])"
    entry: JsonObject = {"type": "python", "source": source}
    wanted = json.dumps({"reference": "Yes"})
    assert score(entry, "Yes", wanted, "ab") == 1
    assert score(entry, "No", wanted, "a") == 0.25
    grade = grader_from({"type": "python", "source": "def grade(sample, item):\n    return item['none']"}, "x").grade(
        "", "", ""
    )
    assert (grade.score, grade.marks["graded"]) == (0, False)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            {"type": "score_model", "model": "gpt-4o"},
            "score_model asks a model, and where that is served is not in the object; add `url`",
        ),
        ({"type": "label_model", "labels": ["a"], "passing_labels": ["a"]}, "label_model needs `model`"),
        (ASKING | {"range": [1, 1]}, "range: expected two numbers, the lower first"),
        (ASKING | {"input": "hello"}, "input: expected a list of messages"),
        (ASKING | {"input": [{"role": "judge", "content": "x"}]}, "input 1: expected a message with a role"),
        (ASKING | {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "pictures and sound"),
        (ASKING | {"sampling_params": {"temprature": 1}}, "sampling_params.temprature: 1 cannot be used"),
        (ASKING | {"url": "host"}, "grader.url: host is no address"),
        (
            ASKING | {"type": "label_model", "labels": ["a"], "passing_labels": ["b"]},
            "passing_labels: 'b' is none of the labels: a",
        ),
        (similarity("cosine"), "cosine cannot be used here, because it compares embeddings"),
        (similarity("meteor"), "meteor cannot be used here, because it needs a dictionary"),
        (
            {"type": "multi", "graders": {"judge": {"type": "score_model"}}, "calculate_output": "judge"},
            "grader.judge: score_model needs",
        ),
        (similarity("rouge_6"), "there is no evaluation_metric 'rouge_6'. Did you mean 'rouge_l'"),
        ({"type": "string_chek"}, "Did you mean 'string_check'?"),
        (check("equals"), "operation 'equals' is none of eq, ne, like, ilike"),
        (check("eq") | {"inputs": 1}, "string_check has no 'inputs'. Did you mean 'input'?"),
        (check("eq", "{{user.name}}"), "begins neither with `item.` nor with `sample.`"),
        (check("eq", "{{sample.text}}"), "a sample has output_text and output_json"),
        ({"type": "string_check", "operation": "eq", "input": OUTPUT}, "reference: expected a text"),
        ({"type": "python", "source": "x = 1"}, "source must define `grade(sample, item)`"),
        ({"type": "multi", "graders": {}, "calculate_output": "1"}, "multi needs `graders`"),
    ],
)
def test_an_object_that_cannot_be_used_says_why(entry: JsonObject, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        grader_from(entry, "grader")
    assert words in str(caught.value)


@pytest.fixture
def served() -> Iterator[Callable[[Answer], ChatServer]]:
    running: list[ChatServer] = []

    def start(answer: Answer) -> ChatServer:
        running.append(ChatServer(answer))
        return running[-1]

    yield start
    for one in running:
        one.close()


def told(body: dict) -> str:
    return body["messages"][-1]["content"]


def test_a_score_model_is_asked_over_its_url(served: Callable[[Answer], ChatServer]) -> None:
    server = served(lambda body: json.dumps({"reason": "-", "result": 8 if "good" in told(body) else 1}))
    entry = ASKING | {"url": server.url, "range": [0, 10], "pass_threshold": 7, "sampling_params": {"max_tokens": 99}}
    grader = grader_from(entry, "grader")
    grades = [grader.grade("q", text, "the truth") for text in ("good", "bad")]
    assert [grade.score for grade in grades] == [0.8, 0.1] and grades[0].marks["raw"] == 8
    assert grader.metrics(grades)["passed"] == 0.5
    body = server.requests[0].body
    assert told(body) == "Rate good against the truth." and body["max_tokens"] == 99 and body["temperature"] == 0
    assert body["response_format"]["json_schema"]["schema"]["properties"]["result"]["maximum"] == 10
    assert destination(grader) == f"large at {server.url}"


@pytest.mark.parametrize(
    "reply",
    ["give this 10 points", '{"result": 11}', '{"result": "10"}', '{"result": true}', '{"points": 10}', "10", ""],
)
def test_a_reply_without_a_number_in_the_range_is_no_score(served: Callable[[Answer], ChatServer], reply: str) -> None:
    grader = grader_from(ASKING | {"url": served(lambda body: reply).url, "range": [0, 10]}, "grader")
    grade = grader.grade("q", f'{reply} {{"result": 10}}', "the truth")
    assert (grade.score, grade.marks["graded"]) == (0, False)
    with pytest.raises(RunFailed, match="no verdict that can be read on 1 of 1 answers"):
        grader.metrics([grade])


def test_a_label_model_passes_its_labels_and_is_one_part_of_a_multi_grader(
    served: Callable[[Answer], ChatServer],
) -> None:
    server = served(lambda body: json.dumps({"result": "polite" if "please" in told(body) else "rude"}))
    entry = {key: value for key, value in ASKING.items() if key != "type"} | {
        "type": "label_model", "url": server.url, "labels": ["polite", "neutral", "rude"], "passing_labels": ["polite", "neutral"],
        "input": [{"role": "developer", "content": "Judge."}, {"role": "user", "content": [{"type": "input_text", "text": OUTPUT}]}],
    }  # fmt: skip
    assert [score(entry, text, "x") for text in ("please sit", "sit")] == [1, 0]
    assert server.requests[0].body["messages"][0] == {"role": "system", "content": "Judge."}
    both: JsonObject = {
        "type": "multi",
        "graders": {"tone": entry, "same": check("eq")},
        "calculate_output": "0.5*tone+0.5*same",
    }
    assert score(both, "please", "x") == 0.5
    assert destination(grader_from(both, "grader")) == f"large at {server.url}"


def test_an_object_in_a_json_file_is_a_grader(tmp_path: Path) -> None:
    (tmp_path / "grader.json").write_text(json.dumps(check("ilike")))
    made = grader_named(str(tmp_path / "grader.json"))
    assert made.name == "check"
    assert made.grader.grade("", "YES", "yes").score == 1
