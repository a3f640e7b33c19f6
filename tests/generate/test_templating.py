"""Templates that come with a model and mean no good: none of them stops, fills or reaches anything."""

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import TemplateError
from tiny_chat import CHATML, byte_tokenizer

from luthier.core.errors import ModelError
from luthier.core.types import Conversation, JsonObject, Message, Row
from luthier.data.asked import Asked, BeyondLimits
from luthier.data.render import Renderer, render_all
from luthier.generate.templating import LONGEST_TEXT, Templates
from luthier.generate.wire import error_as_json, error_from_json

MESSAGES: list[JsonObject] = [{"role": "user", "content": "Hello \u00e9\ue000"}]
SECONDS = 2.0


@pytest.fixture
def rendering() -> Iterator:
    made: list[Templates] = []

    def start(template: str, seconds: float = SECONDS) -> Templates:
        made.append(Templates(byte_tokenizer(template).apply_chat_template, seconds))
        return made[-1]

    yield start
    for templates in made:
        templates.close()


def asked(*contents: str, generation: bool = False) -> list[Asked]:
    return [Asked([{"role": "user", "content": content}], [], generation, {}) for content in contents]


def test_conversations_are_rendered_as_the_tokenizer_renders_them(rendering):
    apply = byte_tokenizer(CHATML).apply_chat_template
    long: list[JsonObject] = [*MESSAGES, {"role": "assistant", "content": "x" * 200_000}]
    many = [Asked(messages, [], n % 2 == 0, {}) for n in range(20) for messages in (MESSAGES, long)]
    wanted = [apply(one.messages, tokenize=False, add_generation_prompt=one.generation) for one in many]
    assert rendering(CHATML)(many) == wanted


def test_a_refusal_stands_in_its_conversations_place(rendering):
    templates = rendering("{% if messages[0].content == 'b' %}{{ raise_exception('no b') }}{% endif %}fine")
    first, second, third = templates(asked("a", "b", "c"))
    assert (first, str(second), third) == ("fine", "no b", "fine") and isinstance(second, TemplateError)


def test_what_a_template_may_write_grows_with_what_it_is_given(rendering):
    (text,) = rendering("{{ messages[0].content }}")(asked("x" * (LONGEST_TEXT + 9)))
    assert len(text) == LONGEST_TEXT + 9


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"
# `one` is the number of messages: what is constant would be computed while the template is compiled.
BOMBS = [
    ENDLESS, "{{ 'a' * (one * 10**9) }}", "{{ ('a' * (one * 99999)) * 99999 }}", "{% set x = [one] * 10**9 %}", "{{ (one + 9) ** (10 ** 8) }}", "{{ '%2000000000d' % one }}",
    "{{ '{:2000000000}'.format(one) }}", "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(one) }}", "{% for a in range(one * 99999) %}{{ 'x' * 99999 }}{% endfor %}",
    "{{ 'x' * (one * 5 * 1024 * 1024) }}", "{{ range(one * 10**12) | list | length }}", "{% set ns = namespace(x='x') %}{% for i in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{{ ('a' * (one * 50)) | replace('a', 'b' * (one * 99999999)) }}", "{{ ('x ' * (one * 99999)) | wordwrap(1) | indent(99999) }}", "{{ lipsum(n=one * 99999) }}", "{{ 'x' | center(one * 10 ** 10) }}",
]  # fmt: skip


@pytest.mark.parametrize("template", BOMBS)
def test_a_template_without_end_ends_within_its_limits_and_the_next_conversation_is_answered(rendering, template: str):
    hostile = (
        "{% set one = messages | length %}{% if messages[0]['content'] == 'attack' %}" + template + "{% endif %}fine"
    )
    templates = rendering(hostile, 1.0)
    since = time.monotonic()
    try:
        assert isinstance(templates(asked("attack"))[0], TemplateError)
    except ModelError as error:
        assert "goes beyond its limits" in str(error)
    assert time.monotonic() - since < 30
    assert templates(asked("Hello")) == ["fine"]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 3 << 20  # in KiB


def rows(*questions: str) -> list[Row]:
    contents = [Conversation((Message("user", one), Message("assistant", "yes"))) for one in questions]
    return [Row(f"id-{line}", "rows.jsonl", line, line, one) for line, one in enumerate(contents, start=1)]


@pytest.mark.parametrize("objective", ["sft", "text"])
def test_the_row_for_which_a_template_does_not_end_is_named(rendering, objective):
    hostile = "{% if messages[0].content == 'attack' %}" + ENDLESS + "{% endif %}" + CHATML
    renderer = Renderer(byte_tokenizer(hostile), max_length=200, rendering=rendering(hostile, 0.3))
    with pytest.raises(ModelError) as raised:
        list(render_all(rows("one", "two", "attack", "four"), renderer, objective))
    said = str(raised.value)
    assert said.startswith("rows.jsonl:3 (row id-3): the model's chat template goes beyond its limits (0.3 s")
    assert "it took too long" in said and said.endswith("Or leave out this row, or make it shorter.")
    assert all(isinstance(result, list) for _, result in render_all(rows("one", "two", "four"), renderer, objective))


def test_a_row_is_named_too_where_only_what_is_left_of_it_after_a_cut_keeps_a_template_busy(rendering):
    hostile = "{% if messages[0].content == 'shorter' %}" + ENDLESS + "{% endif %}" + CHATML
    options = {"max_length": 120, "truncate": "start", "rendering": rendering(hostile, 0.3)}
    (short,) = rows("shorter")
    assert isinstance(short.content, Conversation)
    long = (Message("user", "long " * 40), Message("assistant", "yes"), *short.content.messages)
    given = [*rows("one"), Row("id-2", "rows.jsonl", 2, 2, Conversation(long))]
    with pytest.raises(ModelError, match=r"^rows.jsonl:2 \(row id-2\): the model's chat template goes beyond"):
        list(render_all(given, Renderer(byte_tokenizer(hostile), **options), "sft"))


def test_a_template_beyond_its_limits_is_a_fault_of_the_model_to_whoever_asks_the_engine():
    told = error_from_json(error_as_json(BeyondLimits("too long")))
    assert type(told) is ModelError and str(told) == "too long"


ATTACKS = [
    "''.__class__.__mro__[1].__subclasses__()", "messages.__class__", "''['__class__']", "''|attr('__class__')", "cycler.__init__.__globals__.os", "lipsum.__globals__['os']",
    "joiner.__init__.__globals__", "namespace.__init__.__globals__", "self.__init__.__globals__", "self._TemplateReference__context", "raise_exception.__globals__", "strftime_now.__globals__",
    "strftime_now.__code__", "dict.__base__", "dict.fromkeys.__globals__", "(messages|list).append.__self__.__class__", "'{0.__class__}'.format(messages)", "'%s'|format(messages.__class__)",
    "'{0.__class__.__mro__}'|format(messages)", "messages|map(attribute='__class__')|list", "messages|map('attr','__class__')|list", "messages|groupby('__class__')|list", "''.join.__func__", "range.__self__",
    "(1).__class__", "tools.__class__", "messages[0].update({'a': 1})", "messages.append(1)", "messages.clear()", "messages[0].pop('role')", "config", "request", "get_flashed_messages", "__import__('os')",
    "loop.__init__", "caller.__globals__", "varargs.__class__", "kwargs.__class__", "undefined_name.__class__", "''.format_map(messages[0])",
]  # fmt: skip


def test_no_template_gets_out_of_its_sandbox(rendering, tmp_path: Path):
    fired = tmp_path / "fired"
    call = f".popen('touch {fired}').read()"
    cases = "".join(
        f"{{% if messages[0]['content'] == '{number}' %}}{{{{ ({attack}){end} }}}}{{% endif %}}"
        for number, (attack, end) in enumerate((attack, end) for attack in ATTACKS for end in ("", call))
    )
    templates = rendering(cases)
    told = []
    for number in range(2 * len(ATTACKS)):
        try:
            told += templates(asked(str(number)))
        except ModelError:
            told.append("")
    assert not fired.exists() and len(told) == 2 * len(ATTACKS)
    assert not any(
        word in str(text) for text in told for word in ("<class", "<function", "<module", "<built-in", "<code")
    )


def test_the_process_holds_nothing_of_its_parent_and_ends_with_it(tmp_path: Path):
    with (tmp_path / "open").open("w"):
        templates = Templates(byte_tokenizer(CHATML).apply_chat_template)
        templates(asked("Hello"))
        held = [os.readlink(path) for path in Path(f"/proc/{templates.pid}/fd").iterdir()]
    assert not any(str(tmp_path) in target for target in held)
    pid = templates.pid
    del templates
    assert not Path(f"/proc/{pid}").exists()
