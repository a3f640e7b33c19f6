"""Answers held to spans: copied fields are copies of the question, whatever the model would rather say."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_chat import CHATML, byte_tokenizer
from tiny_models import tiny_llama

from luthier.core.errors import DataError
from luthier.core.types import Prompt
from luthier.data.copied import Extraction, is_copy, learned
from luthier.generate.constrain import Constrainer, Spans
from luthier.generate.engine import Engine

PAIRS = [
    (f"{verb} {what} by {who} at {hour}", {"kind": verb, "loud": hour > 9, "parts": {"what": what, "who": [who, what]}})
    for verb in ("play", "stop")
    for hour, (what, who) in enumerate([("blue moon", "Ann Lee"), ("x-ray 12", "Zoë"), ("the end", "Bo")] * 4)
]
TOKENIZER = byte_tokenizer(CHATML)
STOPS = [TOKENIZER.convert_tokens_to_ids("<|im_end|>"), TOKENIZER.eos_token_id]
CONSTRAINER = Constrainer(TOKENIZER, STOPS, len(TOKENIZER))


def dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def extraction() -> Extraction:
    return learned((question, dumped(answer)) for question, answer in PAIRS)


def allows(question: str, answer: object, form: Extraction | None = None) -> bool:
    matcher = CONSTRAINER.grammar(Spans(form or extraction(), question)).start()

    def accepted(token: int) -> bool:
        allowed = matcher.allowed()[token // 8] >> token % 8 & 1
        if allowed:
            matcher.accept(token)
        return bool(allowed)

    # Where only one run of bytes may follow, llguidance wants it in tokens of its own choice: single bytes within a character.
    for piece in TOKENIZER.tokenize(dumped(answer)):
        if not accepted(TOKENIZER.convert_tokens_to_ids(piece)) and not all(
            accepted(TOKENIZER.convert_tokens_to_ids(byte)) for byte in piece
        ):
            return False
    return bool(matcher.allowed()[STOPS[0] // 8] >> STOPS[0] % 8 & 1)


def test_the_form_is_learned_and_every_training_answer_is_allowed() -> None:
    assert extraction().copied() == ["kind", "parts.what", "parts.who"]
    assert all(allows(question, answer) for question, answer in PAIRS)


def test_what_is_no_copy_of_whole_words_is_refused() -> None:
    question = "play seven seas by Cy at 3"
    good = {"kind": "play", "loud": True, "parts": {"what": "seven seas", "who": ["Cy"]}}
    assert allows(question, good)
    for what in ("seven sea", "even seas", "seas seven", "blue moon", "Seven seas"):
        assert not allows(question, good | {"parts": {"what": what, "who": ["Cy"]}}), what
    assert not allows(question, good | {"kind": "pause"})
    assert not allows(question, {"kind": "play", "parts": good["parts"], "more": 1})


def test_a_random_model_copies_what_it_is_held_to() -> None:
    model = tiny_llama(len(TOKENIZER))
    questions = ["stop the rain by Al at 4", "play on by Mo Day at 11"] * 3

    def answers(held: bool) -> list[tuple[str, str]]:
        form = extraction()
        engine = Engine(
            model, STOPS, 0, unrender=lambda ids: TOKENIZER.decode([i for i in ids if i not in STOPS]), max_new_tokens=200,
            matcher=(lambda prompt: CONSTRAINER.grammar(Spans(form, prompt.question)).start()) if held else None,
        )  # fmt: skip
        prompts = [Prompt(str(n), tuple(range(20 + n, 30 + 2 * n)), question) for n, question in enumerate(questions)]
        return [
            (prompt.question, done.text)
            for prompt, done in zip(prompts, engine(prompts))
            if done.finish_reason == "stop"
        ]

    held = answers(held=True)
    assert len(held) > 1
    for question, text in held:
        parts = json.loads(text)["parts"]
        assert all(is_copy(value, question) or not value for value in (parts["what"], *parts["who"]))
    assert not any(text.startswith("{") for _, text in answers(held=False))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=6), st.data())
def test_every_run_of_pieces_can_be_copied(words: list[str], data: st.DataObject) -> None:
    question = " ".join(words)
    form = learned([("a b", '{"x": "a"}'), ("c d", '{"x": "c d"}')])
    first = data.draw(st.integers(0, len(words) - 1))
    copied = " ".join(words[first : data.draw(st.integers(first, len(words) - 1)) + 1])
    if is_copy(copied, question):
        assert allows(question, {"x": copied}, form)


def test_a_character_that_tokens_cut_can_be_copied() -> None:
    form = learned([("a b", '{"x": "a"}'), ("c d", '{"x": "c d"}')])
    assert TOKENIZER.tokenize("\U00015014")[-1] == "ĢĶ"  # two of its bytes are one token
    assert allows("\U00015014 0", {"x": "\U00015014"}, form)


def test_labels_that_are_no_copies_stay_labels_and_free_text_stays_free() -> None:
    rows = [
        (f"w{n} v{n}", {"topic": ("Far", "Near")[n % 2], "note": f"free {n * 7}", "copy": f"v{n}"}) for n in range(20)
    ]
    form = learned((question, dumped(answer)) for question, answer in rows)
    assert form.copied() == ["copy"]
    assert allows("a b", {"topic": "Far", "note": "what you like", "copy": "b"}, form)
    assert not allows("a b", {"topic": "a", "note": "what you like", "copy": "b"}, form)
    assert not allows("a b", {"topic": "Far", "note": "what you like", "copy": "v1"}, form)


@pytest.mark.parametrize(
    ("pairs", "fault"),
    [
        ([("a", "just words")], "no JSON object"),
        ([("a", '["a"]')], "no JSON object"),
        ([("a", '{"x":  "a"}')], "1 of 1 training answers are not written"),
        ([("a", '{"x": "b"}')], "no field of the training answers holds copies"),
        ([("a", '{"x": ' + "[" * 9 + "]" * 9 + "}")], "nested deeper than 8"),
    ],
)
def test_what_cannot_be_learned_from_is_said(pairs: list[tuple[str, str]], fault: str) -> None:
    with pytest.raises(DataError, match=fault.replace("[", r"\[")):
        learned(pairs)
