"""Each row format: what it reads, and what it refuses with which rule."""

import json
from pathlib import Path

import pytest

from luthier.core import parts
from luthier.core.types import Content, Conversation, JsonObject, Message, Preference, Text
from luthier.data.problems import RowProblem
from luthier.data.read import FORMATS

PREFERENCES = Path(__file__).parents[2].parent / "shared" / "data" / "tasks" / "preferences"
CALL = {"name": "weather", "arguments": {"city": "Bern", "days": [1, 2.50]}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
USER = Message("user", "Q")
ANSWER = Message("assistant", "A")


def read(name: str, row: JsonObject) -> Content:
    assert parts.load(FORMATS, name, "matches")(row)
    return parts.load(FORMATS, name, "read")(row)


def refusal(name: str, row: JsonObject) -> str:
    with pytest.raises(RowProblem) as caught:
        parts.load(FORMATS, name, "read")(row)
    return caught.value.rule


def chat(*turns: tuple[str, str]) -> JsonObject:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


# openai


def test_openai_keeps_all_that_a_message_carries() -> None:
    row: JsonObject = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {
                "role": "User",
                "content": [{"type": "text", "text": "Wea"}, {"type": "text", "text": "ther?"}],
                "name": "Ann",
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Ask.",
                "tool_calls": [{"id": "c1", "type": "function", "function": CALL}],
            },
            {"role": "tool", "content": '{"sun": 1}', "tool_call_id": "c1"},
            {"role": "assistant", "content": "Sun.", "weight": 0},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes.", "weight": 1},
        ],
        "tools": [TOOL],
        "parallel_tool_calls": False,
    }
    assert read("openai", row) == Conversation(
        (
            Message("system", "Be brief."),
            Message("user", "Weather?", name="Ann"),
            Message(
                "assistant", "", reasoning="Ask.", tool_calls=({"id": "c1", "type": "function", "function": CALL},)
            ),
            Message("tool", '{"sun": 1}', tool_call_id="c1"),
            Message("assistant", "Sun.", weight=0),
            Message("user", "Sure?"),
            Message("assistant", "Yes."),
        ),
        (TOOL,),
    )


def test_a_weight_of_0_is_kept_on_every_turn():
    turns = [{"role": "user", "content": "Q", "weight": 0}, {"role": "assistant", "content": "A"}]
    content = parts.load("luthier.data.formats", "openai", "read")({"messages": turns})
    assert [message.weight for message in content.messages] == [0, 1]
    assert content.messages[0].as_dict()["weight"] == 0


def test_openai_reads_the_older_functions_and_json_text() -> None:
    row: JsonObject = {
        "messages": [
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{ "a":1.0}'}},
            {"role": "function", "name": "f", "content": "3"},
            {"role": "assistant", "content": "A"},
        ],
        "functions": [{"name": "f"}],
    }
    content = read("openai", row)
    assert isinstance(content, Conversation)
    assert content.messages[1].tool_calls == (
        {"type": "function", "function": {"name": "f", "arguments": '{ "a":1.0}'}},
    )
    assert content.messages[2] == Message("tool", "3", name="f")
    assert content.tools == ({"type": "function", "function": {"name": "f"}},)
    assert read("openai", {"messages": json.dumps(row["messages"]), "tools": json.dumps(row["functions"])}) == content


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (chat(), "no-messages"),
        ({}, "no-messages"),
        ({"messages": "hello"}, "wrong-type"),
        ({"messages": ["hello"]}, "wrong-type"),
        (chat(("user", "Q")), "no-assistant-turn"),
        (chat(("assistant", "A")), "roles-out-of-order"),
        (chat(("system", "S"), ("assistant", "A")), "roles-out-of-order"),
        (chat(("user", "Q"), ("assistant", "A"), ("assistant", "B")), "roles-out-of-order"),
        (chat(("user", "Q"), ("system", "S"), ("assistant", "A")), "roles-out-of-order"),
        (chat(("user", "Q"), ("tool", "T"), ("assistant", "A")), "roles-out-of-order"),
        (chat(("user", "Q"), ("bot", "A")), "unknown-role"),
        ({"messages": [{"content": "Q"}]}, "missing-role"),
        ({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": None}]}, "null-content"),
        (chat(("user", "Q"), ("assistant", " \u00a0")), "empty-answer"),
        (chat(("user", ""), ("assistant", "A")), "empty-prompt"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "not-text"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "not-text"),
        ({**chat(("user", "Q"), ("assistant", "A")), "images": ["x.png"]}, "not-text"),
        ({**chat(("user", "Q"), ("assistant", "A")), "label": False}, "disliked-answer"),
        (
            {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "weight": 0}]},
            "no-trained-turn",
        ),
        (
            {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "weight": 0.5}]},
            "bad-weight",
        ),
        (
            {"messages": [{"role": "assistant", "content": "A", "tool_calls": [{"function": {"arguments": "{}"}}]}]},
            "bad-tool-call",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{x"}}]}]},
            "bad-tool-call",
        ),
        ({"messages": [{"role": "user", "content": 7}]}, "wrong-type"),
    ],
)
def test_openai_refuses(row: JsonObject, rule: str) -> None:
    assert refusal("openai", row) == rule


def test_several_user_turns_in_a_row_and_a_last_one_unanswered_are_kept() -> None:
    row = chat(("user", "Q"), ("user", "and"), ("assistant", "A"), ("user", "thanks"))
    assert read("openai", row) == Conversation((USER, Message("user", "and"), ANSWER, Message("user", "thanks")))


# pairs


def test_plain_pairs_become_one_question_and_answer() -> None:
    pair = Conversation((USER, ANSWER))
    assert read("prompt_completion", {"prompt": "Q", "completion": "A"}) == pair
    assert read("question_answer", {"question": "Q", "answer": "A", "source": "x"}) == pair
    assert read("input_output", {"input": "Q", "output": "A"}) == pair
    assert read("alpaca", {"instruction": "Q", "input": "", "output": "A"}) == pair
    assert read("dolly", {"instruction": "Q", "context": "", "response": "A", "category": "c"}) == pair


def test_lists_of_messages_and_of_texts_become_turns() -> None:
    messages = chat(("user", "Q"), ("assistant", "A"), ("user", "Q"))["messages"]
    turns = Conversation((USER, ANSWER, USER, ANSWER))
    assert (
        read("prompt_completion", {"prompt": messages, "completion": [{"role": "assistant", "content": "A"}]}) == turns
    )
    assert read("prompt_completion", {"prompt": messages, "completion": "A"}) == turns
    assert read("input_output", {"input": ["Q", "A", "Q"], "output": "A"}) == turns
    assert refusal("input_output", {"input": ["Q", "A"], "output": "A"}) == "roles-out-of-order"


def test_alpaca_joins_instruction_and_input_after_system_and_history() -> None:
    row: JsonObject = {
        "instruction": "Do",
        "input": "this",
        "output": {"a": "é"},
        "system": "S",
        "history": [["Q", "A"]],
    }
    expected = (Message("system", "S"), USER, ANSWER, Message("user", "Do\n\nthis"), Message("assistant", '{"a": "é"}'))
    assert read("alpaca", row) == Conversation(expected)


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({}, "empty-row"),
        ({"output": "A"}, "missing-prompt"),
        ({"instruction": "", "input": None, "output": "A"}, "empty-prompt"),
        ({"instruction": "Q"}, "missing-answer"),
        ({"instruction": "Q", "output": None}, "null-content"),
        ({"instruction": "Q", "output": ""}, "empty-answer"),
        ({"instruction": "Q", "output": "A", "history": [["only"]]}, "wrong-type"),
        ({"instruction": "Q", "output": "A", "system": 3}, "wrong-type"),
    ],
)
def test_alpaca_refuses(row: JsonObject, rule: str) -> None:
    assert refusal("alpaca", row) == rule


@pytest.mark.parametrize(
    ("value", "text"), [(29, "29"), (True, "true"), (["x"], '["x"]'), ([], "[]"), ({"l": 1.5}, '{"l": 1.5}')]
)
def test_an_answer_that_is_no_text_becomes_its_json(value: object, text: str) -> None:
    content = read("alpaca", {"instruction": "Q", "output": value})  # type: ignore[dict-item]
    assert isinstance(content, Conversation)
    assert content.messages[-1].content == text


def test_a_misspelled_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(RowProblem, match="Did you mean 'Output'"):
        parts.load(FORMATS, "alpaca", "read")({"instruction": "Q", "input": "", "Output": "A"})


# sharegpt


def test_sharegpt_reads_calls_observations_and_tools() -> None:
    row: JsonObject = {
        "conversations": [
            {"from": "human", "value": "Q"},
            {"from": "gpt", "value": "Wait."},
            {"from": "function_call", "value": json.dumps(CALL)},
            {"from": "function_call", "value": json.dumps([{"name": "f", "arguments": {}}])},
            {"from": "observation", "value": "sun"},
            {"from": "gpt", "value": "A"},
        ],
        "system": "S",
        "tools": json.dumps([TOOL["function"]]),
    }
    calls = ({"type": "function", "function": CALL}, {"type": "function", "function": {"name": "f", "arguments": {}}})
    assert read("sharegpt", row) == Conversation(
        (Message("system", "S"), USER, Message("assistant", "Wait.", tool_calls=calls), Message("tool", "sun"), ANSWER),
        (TOOL,),
    )


@pytest.mark.parametrize(
    ("turns", "rule"),
    [
        ([], "no-messages"),
        ([{"from": "human", "value": "Q"}], "no-assistant-turn"),
        ([{"from": "gpt", "value": "A"}], "roles-out-of-order"),
        ([{"from": "alien", "value": "A"}], "unknown-role"),
        ([{"value": "A"}], "missing-role"),
        ([{"from": "human", "value": "Q"}, {"from": "gpt", "value": None}], "null-content"),
        ([{"from": "human", "value": "Q"}, {"from": "gpt", "value": ""}], "empty-answer"),
        ([{"from": "human", "value": "Q"}, {"from": "function_call", "value": "f(x)"}], "bad-tool-call"),
    ],
)
def test_sharegpt_refuses(turns: list, rule: str) -> None:
    assert refusal("sharegpt", {"conversations": turns}) == rule


# preferences


def test_preferences_in_all_shapes_are_the_same_pair() -> None:
    pair = Preference((USER,), (ANSWER,), (Message("assistant", "B"),))
    question, good, bad = (
        {"role": role, "content": text} for role, text in (("user", "Q"), ("assistant", "A"), ("assistant", "B"))
    )
    assert read("preference", {"prompt": "Q", "chosen": "A", "rejected": "B"}) == pair
    assert read("preference", {"prompt": [question], "chosen": [good], "rejected": [bad]}) == pair
    assert read("preference", {"prompt": "Q", "chosen": [question, good], "rejected": [question, bad]}) == pair
    assert read("preference", {"chosen": [question, good], "rejected": [question, bad]}) == pair
    shares: JsonObject = {
        "conversations": [{"from": "human", "value": "Q"}],
        "chosen": {"from": "gpt", "value": "A"},
        "rejected": {"from": "gpt", "value": "B"},
    }
    assert read("preference", shares) == pair
    openai: JsonObject = {"input": {"messages": [question]}, "preferred_output": [good], "non_preferred_output": [bad]}
    assert read("openai_preference", openai) == pair


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"prompt": "Q", "chosen": "A", "rejected": "A"}, "same-answers"),
        ({"prompt": "Q", "chosen": "", "rejected": "B"}, "empty-answer"),
        ({"prompt": "Q", "rejected": "B"}, "missing-answer"),
        ({"chosen": "A", "rejected": "B"}, "missing-prompt"),
        ({"prompt": " ", "chosen": "A", "rejected": "B"}, "empty-prompt"),
    ],
)
def test_preferences_refuse(row: JsonObject, rule: str) -> None:
    assert refusal("preference", row) == rule


@pytest.mark.skipif(not PREFERENCES.is_dir(), reason="../shared/data/tasks/preferences is not here")
def test_real_preference_rows_are_read() -> None:
    rows = json.loads((PREFERENCES / "dpo_en_demo.json").read_text())
    for row in rows:
        content = read("preference", row)
        assert isinstance(content, Preference)
        assert content.chosen[0].content == row["chosen"]["value"]
        assert content.rejected[0].content == row["rejected"]["value"]


# text


def test_text_is_a_document_unless_it_is_a_written_out_chat() -> None:
    matches = parts.load(FORMATS, "text", "matches")
    assert read("text", {"text": "Once.", "url": "u", "meta": {}}) == Text("Once.")
    assert not matches({"text": "x", "label": "y"})
    assert not matches({"text": "<|im_start|>user\nQ<|im_end|>"})
    assert refusal("text", {"text": " "}) == "empty-text"


def test_written_out_chats_are_taken_apart() -> None:
    chatml = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    assert read("chatml", {"text": chatml}) == Conversation((Message("system", "S"), USER, ANSWER))
    assert refusal("chatml", {"text": chatml + "<|im_start|>user\nQ"}) == "broken-marks"
    inst = "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ [/INST] A </s><s>[INST] Q [/INST] A</s>"
    assert read("inst", {"text": inst}) == Conversation((Message("system", "S"), USER, ANSWER, USER, ANSWER))
    assert refusal("inst", {"text": "[INST] Q"}) == "broken-marks"
