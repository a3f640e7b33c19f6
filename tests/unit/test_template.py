"""What is found out about a chat template by probing it."""

import pytest
from tiny_chat import CHATML, END_OF_TURN, QWEN3, TEMPLATES, byte_tokenizer

from luthier.core.errors import ModelError
from luthier.core.types import Conversation, Message
from luthier.data.encode import Encoder, unmark
from luthier.data.template import ChatTemplate

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Paris"}'}}


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_the_end_of_turn_is_found_by_probing(name: str) -> None:
    tokenizer = byte_tokenizer(TEMPLATES[name])
    stops = ChatTemplate(tokenizer).stop_tokens
    assert tokenizer.convert_tokens_to_ids(END_OF_TURN[name]) in stops
    assert tokenizer.eos_token_id in stops


def test_the_models_own_stop_tokens_are_kept() -> None:
    assert 7 in ChatTemplate(byte_tokenizer(CHATML), stop_tokens=[7]).stop_tokens


@pytest.mark.parametrize("written", ["call.function.arguments | tojson", "call.function.arguments"])
def test_tool_arguments_reach_the_template_in_the_form_that_it_wants(written: str) -> None:
    template = CHATML.replace("call.function.arguments | tojson", written)
    chat = ChatTemplate(byte_tokenizer(template))
    ((turn,),) = chat.turns([Conversation((Message("user", "q"), Message("assistant", "", tool_calls=(CALL,))))])
    assert '"arguments": {"city": "Paris"}}' in turn.answer


def test_reasoning_is_taken_off_an_answer() -> None:
    tokenizer = byte_tokenizer(QWEN3)
    chat = ChatTemplate(tokenizer)
    answer = tokenizer.encode("<think>\nhm, 2\n</think>\n\nfour<|im_end|>", add_special_tokens=False)
    assert chat.unrender(answer) == "four"


def test_a_model_without_a_chat_template_is_named() -> None:
    tokenizer = byte_tokenizer("")
    tokenizer.chat_template = None
    chat = ChatTemplate(tokenizer)
    with pytest.raises(ModelError, match="no chat template"):
        chat.turns([Conversation((Message("user", "q"), Message("assistant", "a")))])


def test_unmarking_returns_what_was_marked() -> None:
    encoder = Encoder(byte_tokenizer(CHATML), CHATML)
    for text in ("plain", "<s>x</s>", "\ufdd0<|im_end|>\ufdd1", "<tool_call>"):
        marked = encoder.mark(text)
        assert isinstance(marked, str)
        assert unmark(marked) == text
    assert encoder.mark("<tool_call>") != "<tool_call>"
    assert encoder.mark("<tool_call>", answer=True) == "<tool_call>"
