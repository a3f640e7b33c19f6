"""What a chat template is asked to render, and how a tokenizer renders it in this process.

Many conversations are asked for at once, so that whoever renders them elsewhere, in a process with limits, is called once
for some hundred of them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jinja2 import TemplateError

from luthier.core.errors import ModelError
from luthier.core.types import JsonObject

REFUSALS = (TemplateError, TypeError, KeyError, ValueError)


class BeyondLimits(ModelError):
    """The chat template takes more time, memory or text for a conversation than it is allowed."""


class Asked(NamedTuple):
    """One rendering: messages and tools as the template takes them, and whether the generation prompt stands behind them."""

    messages: list[JsonObject]
    tools: list[JsonObject]
    generation: bool
    options: JsonObject


# A text for each conversation, or why the template refuses it.
Rendering = Callable[[Sequence[Asked]], Sequence[str | TemplateError]]


def rendered(apply: Callable[..., object], asked: Asked) -> str:
    """Render one conversation by `apply`, a tokenizer's `apply_chat_template`."""
    return str(
        apply(
            asked.messages, tools=asked.tools or None, tokenize=False, add_generation_prompt=asked.generation,
            **asked.options,
        )
    )  # fmt: skip


def directly(apply: Callable[..., object]) -> Rendering:
    """Render by `apply` in this process: for templates that are trusted."""

    def one(asked: Asked) -> str | TemplateError:
        try:
            return rendered(apply, asked)
        except REFUSALS as error:
            return TemplateError(str(error))

    return lambda many: [one(asked) for asked in many]
