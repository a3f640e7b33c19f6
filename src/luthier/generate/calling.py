"""What one request makes of its tools: what its answers are held to, and which calls are read out of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.types import JsonObject
from luthier.data.call_format import CallFormat
from luthier.generate.call_grammar import CallableTool
from luthier.generate.calls import CallReader
from luthier.generate.constrain import Held, ToolCalls
from luthier.generate.request import ToolChoice, ToolChoiceRefused

_NO_ARGUMENTS: JsonObject = {"type": "object", "properties": {}, "additionalProperties": False}
_ANY_ARGUMENTS: JsonObject = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Calling:
    """The tools that may be called in the template's own form; `constraint` is None where answers are not held to any."""

    format: CallFormat
    names: frozenset[str]
    parallel: bool
    constraint: ToolCalls | None

    def reader(self) -> CallReader:
        """Return a reader for one answer."""
        return CallReader(self.format, self.names, None if self.parallel else 1)


def calling(
    format: CallFormat | None, tools: Sequence[JsonObject], choice: ToolChoice, otherwise: Held | None
) -> Calling | None:
    """Return how a request's tools are called; None where calls stay text. Raises ToolChoiceRefused for a call that cannot be had.

    A choice that requires a call holds the answer to one; a tool that is `strict` holds the calls that the model makes.
    """
    if format is None:
        if choice.required:
            raise ToolChoiceRefused(
                "the model's chat template does not write tool calls as JSON objects with a name and arguments, so that none "
                "can be required of it; use 'auto', and read its calls in the text."
            )
        return None
    functions = [function for tool in tools if isinstance(function := tool.get("function"), dict)]
    if choice.name is not None:
        functions = [function for function in functions if function.get("name") == choice.name]
    parallel = choice.parallel and choice.name is None
    held = choice.required or any(function.get("strict") is True for function in functions)
    constraint = ToolCalls(
        format, tuple(_callable(function, choice) for function in functions), choice.required, parallel, otherwise
    )
    names = frozenset(str(function["name"]) for function in functions)
    return Calling(format, names, parallel, constraint if held else None)


def _callable(function: JsonObject, choice: ToolChoice) -> CallableTool:
    parameters = function.get("parameters")
    schema = parameters if isinstance(parameters, dict) and parameters else _NO_ARGUMENTS
    return CallableTool(
        str(function["name"]), schema if choice.required or function.get("strict") is True else _ANY_ARGUMENTS
    )
