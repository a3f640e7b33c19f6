"""Constrained answers: a model of random weights says nothing but what is allowed, and a good answer stays as it was."""

import json
import re

import jsonschema
import pytest
import torch
from tiny_chat import CHATML, byte_tokenizer, piece_tokenizer
from tiny_models import tiny_llama

from luthier.core.errors import SettingsError
from luthier.core.types import Completion, Prompt
from luthier.generate.constrain import ANY_OBJECT, Choice, Constrainer, Constraint, JsonSchema, Matcher, Pattern, masked
from luthier.generate.engine import Engine

LABELS = Choice(("PlayMusic", "GetWeather", "Get Table"))
ODD_LABELS = Choice((*LABELS.texts, 'a "quoted" \\ label', "日本"))
SCHEMA = JsonSchema(
    {
        "type": "object",
        "properties": {
            "intent": {"$ref": "#/$defs/intent"},
            "slots": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
            "ok": {"type": "boolean"},
        },
        "required": ["intent", "slots", "ok"],
        "additionalProperties": False,
        "$defs": {"intent": {"enum": ["play", "book"]}},
    }
)


def setting(make=byte_tokenizer, lead: str = ""):
    """A tokenizer, the tokens that end an answer, and a model whose logits are wider than the vocabulary."""
    tokenizer = make(CHATML)
    stops = [tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id]
    model = tiny_llama(len(tokenizer) + 9)
    return tokenizer, stops, model, Constrainer(tokenizer, stops, len(tokenizer) + 9, lead)


def answers(constraint: Constraint | None, *, make=byte_tokenizer, rows: int = 6, **options) -> list[Completion]:
    tokenizer, stops, model, constrainer = setting(make)
    grammar = None if constraint is None else constrainer.grammar(constraint)
    engine = Engine(
        model, stops, 0, unrender=lambda ids: tokenizer.decode([i for i in ids if i not in stops]),
        max_new_tokens=options.pop("max_new_tokens", 80), matcher=None if grammar is None else lambda _: grammar.start(), **options,
    )  # fmt: skip
    return engine([Prompt(str(row), tuple(range(30 + row, 40 + row * 2))) for row in range(rows)])


@pytest.mark.parametrize(("make", "labels"), [(byte_tokenizer, ODD_LABELS), (piece_tokenizer, LABELS)])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_random_model_answers_with_labels_only(make, labels: Choice, temperature: float) -> None:
    texts = [answer.text for answer in answers(labels, make=make, temperature=temperature)]
    assert set(texts) <= set(labels.texts)
    assert make is piece_tokenizer or len(set(texts)) > 1
    assert not {answer.text for answer in answers(None, make=make, temperature=temperature)} & set(labels.texts)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_random_model_writes_json_of_the_schema(temperature: float) -> None:
    done = answers(SCHEMA, rows=12, temperature=temperature)
    whole = [json.loads(answer.text) for answer in done if answer.finish_reason == "stop"]
    assert len(whole) > 1
    for value in whole:
        jsonschema.validate(value, SCHEMA.schema)


def test_any_object_is_an_object_and_a_pattern_is_matched_whole() -> None:
    objects = [answer for answer in answers(ANY_OBJECT, temperature=1.0) if answer.finish_reason == "stop"]
    assert objects and all(isinstance(json.loads(answer.text), dict) for answer in objects)
    assert all(re.fullmatch(r"[a-f]{3}-\d{2}", answer.text) for answer in answers(Pattern(r"[a-f]{3}-\d{2}")))


def test_what_was_valid_without_a_constraint_stays_the_same() -> None:
    tokenizer = byte_tokenizer(CHATML)
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    free = answers(None, rows=60, max_new_tokens=3)
    valid = [
        place
        for place, answer in enumerate(free)
        if not special & set(answer.tokens)
        and max(answer.tokens) < len(tokenizer)
        and "\ufffd" not in tokenizer.decode(answer.tokens)
    ]
    assert len(valid) >= 3
    texts = {tokenizer.decode(free[place].tokens) for place in valid}
    for constraint in (Choice(tuple(sorted(texts))), Pattern("(?s:.)*")):
        held = answers(constraint, rows=60, max_new_tokens=3)
        assert [held[place].tokens for place in valid] == [free[place].tokens for place in valid]


def test_the_lead_of_a_template_stands_before_the_constrained_text() -> None:
    tokenizer, _, _, constrainer = setting(lead=" ")
    matcher = constrainer.grammar(LABELS).start()
    for token in tokenizer.encode(" GetWeather", add_special_tokens=False):
        matcher.accept(token)
    bits = matcher.allowed()
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert bits[stop // 8] >> (stop % 8) & 1
    assert sum(byte.bit_count() for byte in bits) == 2


@pytest.mark.parametrize("lead", ["", " "])
def test_a_text_fits_where_all_of_it_and_its_end_are_allowed(lead: str) -> None:
    constrainer = setting(lead=lead)[-1]
    cases: list[tuple[Constraint, list[str], list[str]]] = [
        (LABELS, [*LABELS.texts], ["PlayMus", "PlayMusic!", "", "play"]),
        (ANY_OBJECT, ['{"a": 1}', "{}"], ['{"a": 1', "[1]", '{"a": 1} so']),
        (Pattern("[a-f]{3}"), ["abc"], ["ab", "abcd", "xyz"]),
        (SCHEMA, ['{"intent": "play", "slots": [], "ok": true}'], ['{"intent": "sing", "slots": [], "ok": true}']),
    ]
    for constraint, fitting, others in cases:
        grammar = constrainer.grammar(constraint)
        assert [constrainer.fits(grammar, text) for text in (*fitting, *others)] == [True] * len(fitting) + [
            False
        ] * len(others)


def test_answers_of_one_batch_hold_their_own_places_in_the_grammar() -> None:
    together = answers(SCHEMA, temperature=1.0, rows=3, max_new_tokens=20)
    alone = answers(SCHEMA, temperature=1.0, rows=3, max_new_tokens=20, batch_size=1)
    assert [answer.tokens for answer in together] == [answer.tokens for answer in alone]


def test_what_bypasses_the_mask_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.generate.engine.masked", lambda logits, matchers: logits)
    monkeypatch.setattr(Matcher, "accept", lambda self, token: None)
    assert not {answer.text for answer in answers(LABELS, max_new_tokens=8)} <= set(LABELS.texts)


@pytest.mark.parametrize(
    ("constraint", "word"),
    [
        (JsonSchema({"$ref": "http://example.com/schema.json"}), "nothing is fetched"),
        (JsonSchema({"not": {"type": "string"}}), "not"),
        (JsonSchema({"type": "strin"}), "no JSON schema"),
        (JsonSchema({"enum": []}), "empty"),
        (JsonSchema({"description": "x" * 200_000}), "131,072"),
        (Pattern("(?=a)b"), "look-around"),
        (Pattern("("), "unclosed"),
        (Choice(()), "0 texts"),
        (Choice(("a", "")), "empty"),
    ],
)
def test_what_cannot_be_held_to_is_refused_by_name(constraint: Constraint, word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        setting()[3].grammar(constraint)


def test_deep_schemas_and_a_schema_that_would_take_too_long_are_refused() -> None:
    deep: dict = {"type": "object"}
    for _ in range(2_000):
        deep = {"type": "object", "properties": {"a": deep}}
    with pytest.raises(SettingsError):
        setting()[3].grammar(JsonSchema(deep))


def test_the_mask_reaches_a_model_in_bfloat16() -> None:
    _, _, _, constrainer = setting()
    matcher = constrainer.grammar(LABELS).start()
    logits = torch.zeros(2, len(matcher.allowed()) * 8 - 3, dtype=torch.bfloat16)
    out = masked(logits, [matcher, None])
    assert out[1].isfinite().all() and 0 < int(out[0].isfinite().sum()) < 20 and logits.isfinite().all()
