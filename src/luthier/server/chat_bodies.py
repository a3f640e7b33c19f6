"""Requests for answers, as clients write them and as the engine takes them.

An argument is kept or refused by name; none is left out in silence, but those that tell OpenAI who asks, or how its
machines are to be used.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic import JsonValue as AnyJson

from luthier.core.errors import SettingsError
from luthier.core.types import JsonObject
from luthier.data.messages import messages_from
from luthier.data.problems import RowProblem
from luthier.generate.client import Ask
from luthier.generate.request import MOST_CHOICES, MOST_LOGPROBS, Sampling
from luthier.server.bodies import Strict
from luthier.server.errors import ApiError, not_here
from luthier.server.tool_bodies import MOST_TOOLS, Tool, tool_choice

_UNBOUNDED = 1 << 30  # the engine ends an answer where the model's context does
_PLAIN_TOKENS = 16  # as OpenAI's completions have it
_REFUSED: dict[str, str] = {
    "audio": "Only text is served.",
    "best_of": "Ask for n answers and choose among them.",
    "echo": "Put the prompt before the answer yourself.",
    "function_call": "Use 'tool_choice'.",
    "functions": "Use 'tools'.",
    "logit_bias": "Constrain answers with 'response_format'.",
    "moderation": "Moderate answers with a program of yours.",
    "reasoning_effort": "Whether a model thinks is a setting of its run.",
    "suffix": "Only the end of a text is written.",
    "verbosity": "Say in the prompt how long an answer may be.",
    "web_search_options": "Nothing is searched.",
}
_ASKS_NOTHING: JsonObject = {"best_of": 1, "echo": False, "logit_bias": {}, "suffix": "", "verbosity": "medium"}


class StreamOptions(Strict):
    """What a stream tells beside its pieces."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Request(Strict):
    """What both kinds of requests have; those of the last paragraph change nothing here."""

    model: Annotated[str, Field(min_length=1, max_length=500)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None

    user: str | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the tokens that it took."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def _sampling(self, max_tokens: int, logprobs: int | None) -> Sampling:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        try:
            return Sampling(
                max_tokens, 1.0 if self.temperature is None else self.temperature, 1.0 if self.top_p is None else self.top_p,
                self.presence_penalty or 0.0, self.frequency_penalty or 0.0, tuple(stop), self.seed, self.n or 1, logprobs,
            )  # fmt: skip
        except SettingsError as error:
            raise ApiError(400, f"Invalid 'stop': {error}", param="stop", code="invalid_value") from error


class ChatRequest(_Request):
    """The body of POST /v1/chat/completions."""

    messages: list[AnyJson]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    response_format: AnyJson = None
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: AnyJson = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = None

    metadata: dict[str, str] | None = None
    prediction: AnyJson = None
    prompt_cache_key: str | None = None
    prompt_cache_options: AnyJson = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None

    def ask(self) -> Ask:
        """Return what the engine is asked; raise ApiError for what cannot be kept."""
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError(
                400, "Invalid 'top_logprobs': it needs logprobs to be true.", param="top_logprobs", code="invalid_value"
            )
        max_tokens = self.max_completion_tokens or self.max_tokens or _UNBOUNDED
        sampling = self._sampling(max_tokens, (self.top_logprobs or 0) if self.logprobs else None)
        tools = [tool.as_sent() for tool in self.tools or ()]
        choice = tool_choice(self.tool_choice, tools, parallel=self.parallel_tool_calls is not False)
        try:
            messages = [message.as_dict() for message in messages_from(list(self.messages))]
        except RowProblem as problem:
            param = problem.place or "messages"
            raise ApiError(400, f"Invalid '{param}': {problem.detail}.", param=param, code="invalid_value") from problem
        return Ask(
            messages, tools=tools if choice is not None else (), tool_choice=choice, sampling=sampling,
            constraint=_constraint(self.response_format),
        )  # fmt: skip


class CompletionRequest(_Request):
    """The body of POST /v1/completions."""

    prompt: str | list[str]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    def ask(self) -> Ask:
        """Return what the engine is asked; raise ApiError for what cannot be kept."""
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if len(prompts) != 1:
            raise ApiError(
                400, f"Invalid 'prompt': expected one text, found {len(prompts)}; send a request for each.",
                param="prompt", code="invalid_value",
            )  # fmt: skip
        return Ask(prompt=prompts[0], sampling=self._sampling(self.max_tokens or _PLAIN_TOKENS, self.logprobs))


def refuse_unkept(body: JsonObject) -> None:
    """Raise ApiError for an argument of OpenAI's that asks for what is not there; a default asks for nothing."""
    for name, instead in _REFUSED.items():
        asked = body.pop(name, None)
        if asked is not None and (name not in _ASKS_NOTHING or asked != _ASKS_NOTHING[name]):
            raise not_here(f"The argument '{name}'", instead, name)


def _constraint(format: AnyJson) -> JsonObject | None:
    match format:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"json": True}
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return {"schema": schema}
        case {"type": "json_schema", "json_schema": {"name": str()}}:
            return {"json": True}
        case _:
            raise ApiError(
                400, "Invalid 'response_format': expected the type text, json_object, or json_schema with a schema.",
                param="response_format", code="invalid_value",
            )  # fmt: skip
