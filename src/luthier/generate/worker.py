"""The engine in a process of its own: `python -m luthier.generate.worker`, told what to do on its standard input.

The first message loads a base model; then requests, cancellations and adapters come in while answers go out. Pieces
of one answer that wait to be written are joined, so that a slow reader gets fewer and longer ones. The process ends
when its input does, so that it never outlives its parent. It is the only one that opens the weights and templates of
others: it has no network, and templates are rendered within limits.
"""

import os
import queue
import secrets
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

import torch
from torch.nn import Module

from luthier.config.settings import ModelSettings
from luthier.core.confinement import without_network
from luthier.core.errors import DataError, LuthierError, SettingsError, UserError
from luthier.core.hashing import canonical_json
from luthier.core.types import ROLES, JsonObject, JsonValue, Message
from luthier.data.problems import RowProblem
from luthier.data.render import Renderer
from luthier.generate.adapters import Adapters
from luthier.generate.calling import Calling, calling
from luthier.generate.calls import CallReaders
from luthier.generate.constrain import ANY_OBJECT, Choice, Constrainer, Constraint, Grammar, Held, JsonSchema, Pattern
from luthier.generate.request import Delta, Event, Finished, Sampling, ToolChoice, ToolsRefused
from luthier.generate.serving import Request, ServingEngine
from luthier.generate.templating import Templates
from luthier.generate.wire import error_as_json, event_as_json, read_lines, write_line
from luthier.models.load import context_length, find_model, load_model, load_tokenizer, stop_tokens

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_MOST_GRAMMARS = 64
_END: JsonObject = {"do": "stop"}


class Outbox:
    """Messages on their way out; pieces of one choice that follow one another are joined while they wait."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._waiting: list[JsonObject | Delta] = []
        self._open: dict[tuple[str, int], int] = {}
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._closed = False
        self._thread.start()

    def put(self, message: JsonObject | Delta) -> None:
        """Send a message as soon as the other side reads."""
        with self._changed:
            place = self._open.get((message.request, message.choice)) if isinstance(message, Delta) else None
            if place is not None and isinstance(message, Delta):
                before = cast(Delta, self._waiting[place])
                self._waiting[place] = replace(
                    before, text=before.text + message.text, tokens=before.tokens + message.tokens,
                    calls=before.calls + message.calls,
                )  # fmt: skip
            else:
                if isinstance(message, Delta):
                    self._open[message.request, message.choice] = len(self._waiting)
                self._waiting.append(message)
            self._changed.notify()

    def close(self) -> None:
        """Write what is waiting and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=10)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                taken, self._waiting, self._open = self._waiting, [], {}
                if not taken:
                    return
            try:
                for message in taken:
                    write_line(self._pipe, event_as_json(message) if isinstance(message, Delta) else message)
            except BrokenPipeError:
                return


class Worker:
    """One base model with its adapters, answering until told to stop."""

    def __init__(self, spec: JsonObject, outbox: Outbox) -> None:
        self._outbox = outbox
        settings = ModelSettings.model_validate({key: spec[key] for key in ("name", "revision") if spec.get(key)})
        folder = find_model(settings)
        tokenizer = load_tokenizer(folder)
        context = context_length(folder)
        self._renderer = Renderer(
            tokenizer, max_length=context, enable_thinking=cast("bool | None", spec.get("enable_thinking")),
            stop_tokens=stop_tokens(folder), rendering=Templates(tokenizer.apply_chat_template),
        )  # fmt: skip
        device = str(spec.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = str(spec.get("dtype") or ("float32" if device == "cpu" else "bfloat16"))
        model = load_model(folder, _DTYPES[dtype], device)
        cast(Module, model).requires_grad_(False).eval()
        width = model.config.get_text_config(decoder=True).vocab_size
        self._constrainer = Constrainer(tokenizer, self._renderer.stop_tokens, width, self._renderer.template.lead)
        self._grammars: dict[str, Grammar] = {}
        self._calls = CallReaders(lambda: f"call_{secrets.token_hex(12)}")
        self._engine = ServingEngine(
            Adapters(model, int(str(spec["adapter_bytes"]))), self._renderer.stop_tokens, decode=self._renderer.decode,
            context=context, max_rows=int(str(spec["max_rows"])), max_waiting=int(str(spec["max_waiting"])),
            prefix_bytes=int(str(spec["prefix_bytes"])),
        )  # fmt: skip
        outbox.put({"tell": "loaded", "context": context})

    def serve(self, inbox: "queue.SimpleQueue[JsonObject]") -> None:
        """Do what the messages say, and a step of the engine between them; wait only where there is nothing to do."""
        while True:
            while not self._engine.busy or not inbox.empty():
                message = inbox.get()
                if message["do"] == "stop":
                    return
                self._obey(message)
            try:
                events = self._engine.step()
            except (LuthierError, torch.OutOfMemoryError) as error:
                events = self._engine.fail(str(error))
            for event in events:
                self._tell(event)

    def _obey(self, message: JsonObject) -> None:
        """Do one thing; what the user can mend goes back as an error of that one thing."""
        try:
            match message["do"]:
                case "submit":
                    self._submit(message)
                case "cancel":
                    self._engine.cancel(str(message["id"]))
                case "adapter":
                    self._load_adapter(str(message["name"]), message["path"])
                    self._outbox.put({"tell": "done", "id": message["id"]})
                case "stats":
                    self._outbox.put({"tell": "done", "id": message["id"], "stats": self._engine.stats()})
                case other:
                    raise DataError(f"the engine's process was told to {other!r}, which it does not know.")
        except UserError as error:
            self._outbox.put({"tell": "refused", "id": message["id"], "error": error_as_json(error)})

    def _submit(self, message: JsonObject) -> None:
        held = (
            None if message.get("constraint") is None else constraint_from_json(cast(JsonObject, message["constraint"]))
        )
        called = self._calling(message, held)
        request = self._request(message, self._grammar(message, held, called))
        self._engine.submit(request)
        if called is not None:
            for choice in range(request.sampling.n):
                self._calls.add(request.id, choice, called.reader())

    def _request(self, message: JsonObject, grammar: Grammar | None) -> Request:
        sampling = cast(JsonObject, message["sampling"])
        stop = tuple(str(one) for one in cast("list[JsonValue]", sampling.get("stop", [])))
        adapter, path = (message.get(key) for key in ("adapter", "adapter_path"))
        if path is not None and adapter not in self._engine.adapters.names:
            self._load_adapter(str(adapter), path)
        return Request(
            str(message["id"]), self._prompt(message), Sampling(**{**sampling, "stop": stop}),
            None if adapter is None else str(adapter), grammar,
        )  # fmt: skip

    def _calling(self, message: JsonObject, held: Held | None) -> Calling | None:
        tools, choice = cast("list[JsonObject]", message.get("tools") or []), message.get("tool_choice")
        if not tools or not isinstance(choice, dict):
            return None
        return calling(self._renderer.template.calls, tools, ToolChoice(**choice), held)  # pyright: ignore[reportArgumentType]

    def _load_adapter(self, name: str, path: JsonValue) -> None:
        self._engine.adapters.load(name, Path(str(path)), self._engine.adapters_in_use)

    def _prompt(self, message: JsonObject) -> tuple[int, ...]:
        """Return the prompt's tokens: a plain text, or messages through the model's chat template."""
        if isinstance(text := message.get("prompt"), str):
            return tuple(self._renderer.template.encoder.encode([self._renderer.template.document(text)])[0])
        messages = [_message(one) for one in cast("list[JsonObject]", message["messages"])]
        try:
            return tuple(self._renderer.prompt(messages, cast("Sequence[JsonObject]", message.get("tools") or [])))
        except RowProblem as problem:
            raise DataError(f"this conversation cannot be rendered: {problem.rule}: {problem.detail}") from problem

    def _grammar(self, message: JsonObject, held: Held | None, called: Calling | None) -> Grammar | None:
        plain = None if held is None else self._compiled(message["constraint"], held)
        if called is None or called.constraint is None:
            return plain
        try:
            return self._compiled([message[key] for key in ("constraint", "tool_choice", "tools")], called.constraint)
        except SettingsError as error:  # what else is asked for was compiled before
            raise ToolsRefused(str(error)) from error

    def _compiled(self, told: JsonValue, constraint: Constraint) -> Grammar:
        key = canonical_json(told)
        if key not in self._grammars:
            if len(self._grammars) >= _MOST_GRAMMARS:
                self._grammars.pop(next(iter(self._grammars)))
            self._grammars[key] = self._constrainer.grammar(constraint)
        return self._grammars[key]

    def _tell(self, engine_event: Event) -> None:
        for event in self._calls.read(engine_event):
            if isinstance(event, Finished):
                self._outbox.put({**event_as_json(event), "content": self._renderer.unrender(event.ids)})
            else:
                self._outbox.put(event)


def constraint_from_json(value: JsonObject) -> Held:
    """Read `{"json": true}`, `{"schema": {...}}`, `{"choice": [...]}` or `{"pattern": "..."}`."""
    match value:
        case {"json": True}:
            return ANY_OBJECT
        case {"schema": dict(schema)}:
            return JsonSchema(schema)
        case {"choice": list(texts)}:
            return Choice(tuple(str(text) for text in texts))
        case {"pattern": str(pattern)}:
            return Pattern(pattern)
        case _:
            raise DataError(
                f"a constraint has the keys {sorted(value)}; expected one of json, schema, choice, pattern."
            )


def _message(value: JsonObject) -> Message:
    role, content = value.get("role"), value.get("content")
    calls = value.get("tool_calls") or []
    if role not in ROLES or not isinstance(content, str | None) or not isinstance(calls, list):
        raise DataError(
            f"a message has the role {role!r} and content of type {type(content).__name__}; expected one of "
            f"{', '.join(ROLES)}, and a text."
        )
    call, name, reasoning = (
        None if value.get(key) is None else str(value[key]) for key in ("tool_call_id", "name", "reasoning_content")
    )
    calls = tuple(cast("list[JsonObject]", calls))
    return Message(role, content or "", reasoning=reasoning, tool_calls=calls, tool_call_id=call, name=name)


def main() -> None:
    """Serve on standard input and output, without a network; what libraries print goes to standard error."""
    if not without_network():
        print("this system cannot keep the engine from the network", file=sys.stderr)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    outbox = Outbox(out)
    inbox: queue.SimpleQueue[JsonObject] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, inbox), daemon=True).start()
    spec = inbox.get()
    if spec["do"] == "load":
        if spec.get("threads"):
            torch.set_num_threads(int(str(spec["threads"])))
        try:
            Worker(spec, outbox).serve(inbox)
        except UserError as error:
            outbox.put({"tell": "failed", "error": error_as_json(error)})
    outbox.close()


def _read(pipe: IO[bytes], inbox: "queue.SimpleQueue[JsonObject]") -> None:
    """Hand messages over; the end of the input is a message too."""
    try:
        for message in read_lines(pipe):
            inbox.put(message)
    finally:
        inbox.put(_END)


if __name__ == "__main__":
    main()
    # Everything is written; taking torch apart would keep the parent waiting for seconds.
    os._exit(0)
