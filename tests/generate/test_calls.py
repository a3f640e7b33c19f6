"""Tool calls, from what a template trains to what is read out of an answer, and answers that are held to calls."""

import json
import random
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_chat import CALLS, CHATML, NO_CALLS, byte_tokenizer, piece_tokenizer
from transformers import AutoTokenizer

from luthier.core.errors import SettingsError
from luthier.core.types import Conversation, Message, Row
from luthier.data.render import Renderer
from luthier.generate.calling import calling
from luthier.generate.calls import Call, CallReader, CallReaders
from luthier.generate.constrain import Constrainer, JsonSchema, Matcher, ToolCalls
from luthier.generate.request import CallPiece, Delta, Finished, TokenLogprob, ToolChoice, ToolChoiceRefused
from luthier.generate.stream import stream

STARTER = Path(str(files("luthier.starter") / "model"))
NAMES = ("weather", "find", "say-2")
WEATHER = {
    "type": "object", "required": ["city"], "additionalProperties": False,
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer"}},
}  # fmt: skip
TOOLS = (
    {"type": "function", "function": {"name": "weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "find", "parameters": {"$ref": "#/$defs/q", "$defs": {"q": {"type": "object", "properties": {"q": {"type": "string"}}}}}}},
    {"type": "function", "function": {"name": "say-2"}},
)  # fmt: skip
ODD_TEXTS = [
    '"}',
    "</tool_call>",
    "<tool_call>",
    "\\",
    "]",
    "<|im_end|>",
    "\n",
    "🎻 Öl",
    "\ufdd0",
    "[TOOL_CALLS] [",
    "{",
    '", "id": "',
]
texts = st.one_of(st.text(max_size=8), st.lists(st.sampled_from(ODD_TEXTS), max_size=3).map("".join))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6,
)  # fmt: skip
made_calls = st.lists(
    st.tuples(st.sampled_from(NAMES), st.dictionaries(texts, values, max_size=3)), min_size=1, max_size=3
)


@cache
def renderer(name: str) -> Renderer:
    tokenizer = (
        AutoTokenizer.from_pretrained(STARTER) if name == "starter" else byte_tokenizer({**CALLS, **NO_CALLS}[name])
    )
    return Renderer(tokenizer, max_length=100_000)


def trained(name: str, content: str, calls) -> list[int]:
    """The tokens that a row with these calls trains, without the end of its turn."""
    written = tuple(
        {"id": f"call_{place}", "type": "function", "function": {"name": tool, "arguments": json.dumps(arguments)}}
        for place, (tool, arguments) in enumerate(calls)
    )
    row = Row(
        "r", "f", 1, 1, Conversation((Message("user", "q"), Message("assistant", content, tool_calls=written)), TOOLS)
    )
    (item,) = renderer(name).render(row, "sft")
    tokens = [token for token, weight in zip(item.tokens_L.tolist(), item.weight_L) if weight > 0]
    assert tokens[-1] in renderer(name).stop_tokens
    return tokens[:-1]


def read(name: str, pieces, **options) -> tuple[str, list[Call]]:
    """What is read out of an answer that comes in these pieces."""
    format = renderer(name).template.calls
    assert format is not None
    reader = CallReader(format, NAMES, **options)
    told = [*(reader.push(piece) for piece in pieces), reader.rest()]
    return "".join(one.text for one in told), [call for one in told for call in one.calls]


def cut(text: str, seed: int) -> list[str]:
    numbers = random.Random(seed)
    places = sorted(numbers.choices(range(len(text) + 1), k=numbers.randint(0, 30)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)])]


@pytest.mark.parametrize("name", [*CALLS, "starter"])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(calls=made_calls, content=st.sampled_from(["", "Let me see.", " {x} "]))
def test_any_call_that_is_trained_is_read_back_out_of_its_tokens(name: str, calls, content: str):
    content = "" if name in ("mistral", "llama3") else content  # they write calls alone
    pieces = list(stream(trained(name, content, calls), renderer(name).decode))
    lead = "<think>\n\n</think>\n\n" if name == "qwen3" else ""
    text, found = read(name, pieces)
    assert text.rstrip() == (lead + content).rstrip()
    assert [(call.name, json.loads(call.arguments)) for call in found] == [
        (tool, arguments) for tool, arguments in calls
    ]
    assert read(name, pieces, most=1)[1] == found[:1]


LOOSE = st.lists(
    st.sampled_from([
        "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[", "]", ",", " ", "\n", "{", "}", "Sure", "<", '{"a": [1]}', '{"name": "weather", "arguments": {"x": "}"}}',
        '{"name": "weather", "parameters": {}}', '{"name": "nobody", "arguments": {}}', '{"name": "find", "arguments": 3}', '{"name": "find", "argum', "<|tool_call|>", "<|/tool_call|>",
    ]), max_size=9,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("name", [*CALLS, "starter"])
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=LOOSE, seed=st.integers())
def test_however_an_answer_is_cut_the_same_is_read(name: str, text: str, seed: int):
    whole = read(name, [text])
    assert read(name, cut(text, seed)) == whole == read(name, list(text))
    assert {call.name for call in whole[1]} <= {"weather"}
    if not whole[1]:
        assert whole[0] == text  # what is no call stays as it was written


@pytest.mark.parametrize(
    ("name", "text", "content", "calls"),
    [
        ("chatml", 'Wait.\n<tool_call>{"name":"find","arguments":{}}</tool_call>\n', "Wait.", 1),
        ("chatml", '<tool_call>\n{"name": "find", "arguments": {}}', "", 1),  # the model forgot the closing
        ("chatml", '<tool_call>\n{"name": "find", "arguments": {}', '<tool_call>\n{"name": "find", "arguments": {}', 0),
        ("chatml", '<tool_call>{"name": "find", "arguments": {"a": NaN}}</tool_call>', None, 0),
        ("chatml", '<tool_call>{"name": "find", "arguments": {"a": 1, "a": 2}}</tool_call>', None, 0),
        ("chatml", '<tool_call>{"name": "find", "arguments": {"a": "\\ud800"}}</tool_call>', None, 0),
        ("chatml", '<tool_call>{"name": "find", "arguments": {"a": 1e999}}</tool_call>', None, 0),
        ("chatml", '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>', None, 0),
        ("chatml", "<tool_call>" + '{"a":' * 5000, None, 0),
        ("chatml", 'a <tool_call> <tool_call>{"name": "find", "arguments": {}}</tool_call> b', "a <tool_call>  b", 1),
        ("llama3", '\n{"name": "find", "parameters": {"q": "x"}}', "", 1),
        ("llama3", '{"name": "find", "parameters": {}}{"name": "find", "parameters": {}}', "", 2),
        ("llama3", 'Sure: {"name": "find", "parameters": {}}', None, 0),
        ("llama3", '{"name": "find", "age": 3}', None, 0),
        ("mistral", '[TOOL_CALLS][{"name": "find", "arguments": {}}, {"arguments": {}, "name": "find", "id": "123456789"}]', "", 2),
        ("mistral", '[TOOL_CALLS] [{"name": "find", "arguments": {}}, {"name": 3}]', ', {"name": 3}]', 1),
        ("starter", 'So.<|tool_call|>{"name": "find", "arguments": {}}<|/tool_call|><|tool_call|>{}<|/tool_call|>', "So.<|tool_call|>{}<|/tool_call|>", 1),
        ("qwen3", '<think>\nhm\n</think>\n\n<tool_call>\n{"name": "find", "arguments": {}}\n</tool_call>', "<think>\nhm\n</think>", 1),
    ],
)  # fmt: skip
def test_models_are_freer_than_templates(name: str, text: str, content: str | None, calls: int):
    said, found = read(name, [text])
    assert (said, len(found)) == (text if content is None else content, calls)


def test_a_template_that_writes_no_json_has_no_format_and_its_calls_stay_text():
    for name in NO_CALLS:
        assert renderer(name).template.calls is None
    assert calling(None, TOOLS, ToolChoice(), None) is None
    with pytest.raises(ToolChoiceRefused, match="use 'auto'"):
        calling(None, TOOLS, ToolChoice(required=True), None)


def test_a_call_that_begins_with_an_end_of_turn_could_not_be_served_and_has_no_form():
    sent_on = CHATML.replace("'\\n<tool_call>\\n{", "'<|im_end|>call\\n{")
    assert sent_on != CHATML and Renderer(byte_tokenizer(sent_on), max_length=10_000).template.calls is None


def test_the_id_of_a_call_may_be_written_or_left_to_us():
    required = constraint("mistral", ToolChoice(True))
    assert required
    written = '[TOOL_CALLS] [{"name": "find", "arguments": {"q": "x"}%s}]'
    for more, right in (
        ("", True),
        (', "id": "call00001"', True),
        (', "id": ""', False),
        (', "age": "call00001"', False),
    ):
        assert takes("mistral", required, spoken("mistral", written % more)) is right


def test_a_template_may_put_the_arguments_first_or_the_call_into_more():
    first = CHATML.replace('{"name": "\' + call.function.name + \'", "arguments": \' + (call.function.arguments | tojson) + \'}',
                           '{"arguments": \' + (call.function.arguments | tojson) + \', "name": "\' + call.function.name + \'"}')  # fmt: skip
    more = CHATML.replace('{"name": "', '{"type": "function", "function": {"name": "').replace(
        "+ '}\\n</tool", "+ '}}\\n</tool"
    )
    for template in (first, more):
        engine = Renderer(byte_tokenizer(template), max_length=10_000)
        format = engine.template.calls
        assert template != CHATML and format is not None and format.arguments_first is (template is first)
        call = {"function": {"name": "find", "arguments": {"q": 1}}}
        turns = Conversation((Message("user", "q"), Message("assistant", "", tool_calls=(call,))))
        ((turn,),) = engine.template.turns([turns])  # type: ignore[misc]
        reader = CallReader(format, NAMES)
        assert reader.push(turn.answer.removesuffix("<|im_end|>")).calls == (Call("find", '{"q": 1}'),)


def test_ids_that_a_template_refuses_are_made_shorter_and_stay_apart():
    calls = tuple(
        {"id": name, "type": "function", "function": {"name": "find", "arguments": {}}}
        for name in ("call_one", "call_two")
    )
    turns = (Message("user", "q"), Message("assistant", "", tool_calls=calls), Message("tool", "1", tool_call_id="call_one"), Message("tool", "2", tool_call_id="call_two"))  # fmt: skip
    prompt = renderer("mistral").template.prompt(turns)
    ids = [part.split('"')[0] for part in prompt.split('id": "')[1:]]
    assert ids[:2] == ids[2:] and len(set(ids)) == 2 and {len(name) for name in ids} == {9}
    assert '"call_one"' not in prompt and "call_one" in str(renderer("chatml").template.request(turns))


def test_readers_take_the_place_of_events_and_number_the_calls():
    format = renderer("chatml").template.calls
    assert format is not None
    readers = CallReaders(iter(("a", "b")).__next__)
    readers.add("r", 1, CallReader(format, NAMES))
    call = '<tool_call>{"name": "find", "arguments": {"q": 1}}</tool_call>'
    other = Delta("r", 0, call)
    assert readers.read(other) == [other]
    assert readers.read(Delta("r", 1, "<tool_")) == []
    token = (TokenLogprob("x", -1.0),)
    (told,) = readers.read(Delta("r", 1, "call>" + call.removeprefix("<tool_call>") + call, token))
    assert told == Delta("r", 1, "", token, (
        CallPiece(0, "a", "find"), CallPiece(0, arguments='{"q": 1}'), CallPiece(1, "b", "find"), CallPiece(1, arguments='{"q": 1}'),
    ))  # fmt: skip
    readers.add("s", 0, CallReader(format, NAMES))
    (end,) = readers.read(Finished("r", 1, "stop", 1, 0, ()))
    assert isinstance(end, Finished) and end.reason == "tool_calls"
    readers.read(Delta("s", 0, "<tool_call>{"))
    left, end = readers.read(Finished("s", 0, "length", 1, 0, ()))
    assert isinstance(left, Delta) and left.text == "<tool_call>{"
    assert isinstance(end, Finished) and end.reason == "length"


def constraint(name: str, choice: ToolChoice, strict: bool = False, otherwise=None) -> ToolCalls | None:
    tools = [{"type": "function", "function": {**tool["function"], "strict": strict}} for tool in TOOLS]  # type: ignore[dict-item]
    made = calling(renderer(name).template.calls, tools, choice, otherwise)
    assert made is not None
    return made.constraint


@cache
def constrainer(name: str) -> Constrainer:
    engine = renderer(name)
    tokenizer = engine.template.encoder._tokenizer
    return Constrainer(tokenizer, engine.stop_tokens, len(tokenizer), engine.template.lead)


def takes(name: str, held: ToolCalls, tokens: list[int]) -> bool:
    """Tell whether an answer may be these tokens and then end."""
    matcher: Matcher = constrainer(name).grammar(held).start()
    for token in [*tokens, renderer(name).stop_tokens[0]]:
        if not matcher.allowed()[token >> 3] >> (token & 7) & 1:
            return False
        if token not in renderer(name).stop_tokens:
            matcher.accept(token)
    return True


def spoken(name: str, text: str) -> list[int]:
    (tokens,) = renderer(name).template.encoder.encode_after([text])
    return tokens


RIGHT = ("weather", {"city": "Rome", "days": 3})
WRONG = ("weather", {"city": "Oslo"})
FOUND = ("find", {"q": "x"})


@pytest.mark.parametrize("name", [*CALLS, "starter"])
def test_what_is_trained_is_what_a_required_call_is_held_to(name: str):
    required, one = (constraint(name, ToolChoice(True, parallel=parallel)) for parallel in (True, False))
    named = constraint(name, ToolChoice(True, "find"))
    assert required and one and named
    right, wrong, found = (trained(name, "", [call]) for call in (RIGHT, WRONG, FOUND))
    both, many = trained(name, "", [RIGHT, FOUND]), trained(name, "", [FOUND] * 17)
    assert [takes(name, required, tokens) for tokens in (right, found, both, wrong, many)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert [takes(name, one, tokens) for tokens in (right, found, both)] == [True, True, False]
    assert [takes(name, named, tokens) for tokens in (found, right, both)] == [True, False, False]
    assert not takes(name, required, spoken(name, "Hello")) and not takes(name, required, [])


@pytest.mark.parametrize("name", [*CALLS, "starter"])
def test_a_strict_tool_is_held_to_its_schema_when_the_model_chooses_to_call_it(name: str):
    assert constraint(name, ToolChoice()) is None  # nothing is held to where nothing is promised
    held = constraint(name, ToolChoice(), strict=True)
    assert held
    right, wrong = (trained(name, "", [call]) for call in (RIGHT, WRONG))
    assert takes(name, held, right) and not takes(name, held, wrong)
    for text in ("Hello", "", '[1, "x"] <b>', "<think>\nhm\n</think>\n\nHello"):
        assert takes(name, held, spoken(name, text))
    if name != "llama3":  # which has calls at the beginning alone
        assert takes(name, held, spoken(name, "Hello ") + right) and not takes(
            name, held, spoken(name, "Hello ") + wrong
        )


def test_a_call_stands_beside_the_json_that_is_asked_for():
    colour = JsonSchema({"type": "object", "properties": {"colour": {"enum": ["red"]}}, "required": ["colour"]})
    for name in ("chatml", "starter"):
        held = constraint(name, ToolChoice(), True, colour)
        assert held
        assert takes(name, held, spoken(name, '{"colour": "red"}')) and takes(name, held, trained(name, "", [RIGHT]))
        assert not takes(name, held, spoken(name, '{"colour": "blue"}')) and not takes(
            name, held, trained(name, "", [WRONG])
        )
    held = constraint("llama3", ToolChoice(), True, colour)
    assert held and takes("llama3", held, spoken("llama3", '{"colour": "red"}'))


def test_a_mark_is_a_token_of_its_own_where_there_is_one():
    held = constraint("starter", ToolChoice(required=True))
    assert held
    spelled = trained("starter", "", [RIGHT])
    mark = renderer("starter").template.encoder._as_text("<|tool_call|>")
    assert len(mark) > 1 and not takes("starter", held, mark + spelled[1:])


def test_a_schema_that_cannot_be_held_to_is_refused():
    format = renderer("chatml").template.calls
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "not": {"required": ["x"]}}}}
    made = calling(format, [tool], ToolChoice(required=True), None)
    assert made and made.constraint
    with pytest.raises(SettingsError, match="set of tools"):
        constrainer("chatml").grammar(made.constraint)


def test_calls_are_read_where_tokens_carry_their_spaces_with_them():
    engine = Renderer(piece_tokenizer(CHATML), max_length=10_000)
    call = {"function": {"name": "find", "arguments": {"q": "naïve  日本"}}}
    row = Row("r", "f", 1, 1, Conversation((Message("user", "q"), Message("assistant", "", tool_calls=(call,)))))
    (item,) = engine.render(row, "sft")
    tokens = [token for token, weight in zip(item.tokens_L.tolist(), item.weight_L) if weight > 0][:-1]
    format = engine.template.calls
    assert format is not None
    reader = CallReader(format, NAMES)
    found = [call for piece in stream(tokens, engine.decode) for call in reader.push(piece).calls]
    assert found == [Call("find", '{"q": "naïve  日本"}')]
