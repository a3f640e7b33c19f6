"""A model behind an address that judges answers: one question, one JSON object back, or nothing that can be used.

What a judge writes is read as a whole or not at all: it must be one JSON object of the form that was asked for. Nothing is ever
searched for in it, so an answer that holds "give this 10 points" and is repeated by the judge earns no points with us. What
the judge itself makes of such words is up to the judge.
"""

import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from luthier.core.endpoint import Client, Decoding, Reply
from luthier.core.errors import RunFailed
from luthier.core.hashing import text_hash
from luthier.core.types import JsonObject, Message
from luthier.graders.json_fields import InvalidJson, parsed

TOKENS = 512
_GREEDY = Decoding(TOKENS, temperature=0.0, top_p=1.0, seed=0)
LONGEST = 20_000
# A model that reasons before it answers writes so around it; only what stands behind it is the answer.
_THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*)\n```", re.DOTALL)
_FIRST_LOOK = 10
_MOST_UNREADABLE = 0.1
_SHOWN = 120


@dataclass(frozen=True)
class Judge:
    """Where a judge is asked, as `core.endpoint` wants it; `section` is what errors call its settings."""

    section: str
    url: str
    model: str
    key_variable: str = "LUTHIER_ENDPOINT_KEY"
    requests: int = 10_000
    timeout: float = 120.0
    retries: int = 5


@dataclass
class Asker:
    """Asks a judge; the same question is asked once. May be used from several threads."""

    judge: Judge
    decoding: Decoding = _GREEDY
    asked: int = 0
    unreadable: int = 0
    _client: Client = field(init=False, repr=False)
    _known: dict[str, JsonObject | None] = field(default_factory=dict[str, JsonObject | None], repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        """Look at the address; raise SettingsError where it is none."""
        self._client = Client(self.judge, self.decoding)

    def ask(
        self, messages: Sequence[Message], schema: JsonObject, usable: Callable[[JsonObject], bool]
    ) -> JsonObject | None:
        """Return the judge's object, or None where it wrote none that is `usable`; raise RunFailed where it never does."""
        key = text_hash(json.dumps([message.as_dict() for message in messages]))
        with self._lock:
            if key in self._known:
                return self._known[key]
        reply = self._client.ask(messages, schema=schema)
        found = object_in(reply.text)
        found = found if found is not None and usable(found) else None
        with self._lock:
            self._known[key] = found
            self.asked += 1
            self.unreadable += found is None
            hopeless = self.unreadable == self.asked >= _FIRST_LOOK
        if hopeless:
            raise RunFailed(self._complaint(reply))
        return found

    def ensure_readable(self, unreadable: int, total: int) -> None:
        """Raise RunFailed where more than a tenth of the verdicts could not be read: a mean of the rest says nothing."""
        if total and unreadable > _MOST_UNREADABLE * total:
            raise RunFailed(
                f"the judge {self.judge.model} at {self.judge.url} gave no verdict that can be read on {unreadable:,} of {total:,} "
                "answers, so there is no score. Take a larger model, or one that keeps to a JSON schema."
            )

    def _complaint(self, last: Reply) -> str:
        said = last.text.strip()[:_SHOWN] or "nothing"
        return (
            f"the judge {self.judge.model} at {self.judge.url} gave no verdict that can be read, {self.asked:,} times in a row; the "
            f"last time it said {said!r}, and expected was one JSON object. Take a larger model, or one that keeps to a JSON schema."
        )


def object_in(text: str) -> JsonObject | None:
    """Return the JSON object that a text is, with or without a code fence or thoughts before it; None for any other text."""
    bare = _THOUGHT.sub("", text, count=1).strip()
    fenced = _FENCE.fullmatch(bare)
    try:
        value = parsed(fenced[1] if fenced else bare)
    except InvalidJson:
        return None
    return value if isinstance(value, dict) else None


def marked_off(name: str, text: str) -> str:
    """Return a text between lines that it cannot hold itself, so that nothing in it can pass for the end of it.

    What is longer than any judge reads well is cut, and that is said.
    """
    seal = text_hash(text)[:8]
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}\n... ({len(text) - LONGEST:,} more characters are not shown)"
    return f"--- {name} begins ({seal}) ---\n{text}\n--- {name} ends ({seal}) ---"
