"""Tools and the choice among them, as requests for chats write them."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic import JsonValue as AnyJson
from pydantic_core import PydanticCustomError

from luthier.core.errors import nearest
from luthier.core.types import JsonObject
from luthier.generate.request import ToolChoice
from luthier.server.bodies import Strict
from luthier.server.errors import ApiError

MOST_TOOLS = 128


def _of_objects(schema: dict[str, AnyJson]) -> dict[str, AnyJson]:
    if schema and schema.get("type") != "object":
        raise PydanticCustomError("schema", "expected a JSON schema of the type 'object'")
    return schema


class Function(Strict):
    """What may be called."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: Annotated[dict[str, AnyJson], AfterValidator(_of_objects)] | None = None
    strict: bool | None = None


class Tool(Strict):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function

    def as_sent(self) -> JsonObject:
        """Return it with what the client wrote, which is what the model is shown."""
        return {"type": self.type, "function": self.function.model_dump(exclude_unset=True)}


def tool_choice(choice: AnyJson, tools: Sequence[JsonObject], *, parallel: bool) -> ToolChoice | None:
    """Return how the tools are to be called, None where they are not; raise ApiError for a choice that is none of these tools."""
    if choice is None:
        return ToolChoice(parallel=parallel) if tools else None
    if not tools:
        raise _invalid("'tool_choice' is only allowed when 'tools' are specified.")
    match choice:
        case "none":
            return None
        case "auto" | "required":
            return ToolChoice(required=choice == "required", parallel=parallel)
        case {"type": "function", "function": {"name": str(name)}}:
            names = [str(function["name"]) for tool in tools if isinstance(function := tool["function"], dict)]
            if name not in names:
                raise _invalid(
                    f"Invalid 'tool_choice': there is no tool {name!r} among the 'tools'.{nearest(name, names)}"
                )
            return ToolChoice(required=True, name=name, parallel=parallel)
        case {"type": "allowed_tools" | "custom"}:
            raise _invalid(
                f"The type {choice['type']!r} of 'tool_choice' is not supported by this server. Send the tools that may be called.",
                "not_supported",
            )
        case _:
            raise _invalid(
                "Invalid 'tool_choice': expected 'none', 'auto', 'required', or "
                "{'type': 'function', 'function': {'name': ...}}."
            )


def _invalid(message: str, code: str = "invalid_value") -> ApiError:
    return ApiError(400, message, param="tool_choice", code=code)
