"""Requests that join and leave between steps: the engine behind a server, without the server.

`submit` puts a request into a bounded queue, `step` runs one token of every row and returns what happened, `cancel`
frees a request's rows at the next step. Nothing here waits, and nothing knows of threads, pipes or HTTP. A request
answers as it would alone, up to the rounding of sums.

B is the number of rows, V the size of the vocabulary.
"""

import secrets
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from luthier.core.errors import DataError, RunFailed
from luthier.core.hashing import generator
from luthier.core.types import JsonObject
from luthier.generate.adapters import Adapters
from luthier.generate.asked import Asked
from luthier.generate.constrain import Grammar, Matcher, masked
from luthier.generate.request import Delta, Ending, Event, Finished, PromptTooLong, QueueFull, Sampling, TokenLogprob
from luthier.generate.rows import rows_for
from luthier.generate.sample import sampled
from luthier.generate.stream import StopStrings, TextStream

PREFILL_TOKENS = 4_096


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: a prompt as tokens, how to decode, which adapter, and what the answer must be."""

    id: str
    tokens: tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    adapter: str | None = None
    grammar: Grammar | None = None


@dataclass(slots=True)
class _Row:
    """One choice of a request while it is decoded."""

    request: Request
    choice: int
    cached: int
    budget: int
    text: TextStream
    stops: StopStrings
    matcher: Matcher | None
    numbers: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)


class ServingEngine:
    """Decodes many requests at once with one base model and its adapters."""

    def __init__(
        self,
        adapters: Adapters,
        stop_tokens: Sequence[int],
        *,
        decode: Callable[[Sequence[int]], str],
        context: int,
        max_rows: int = 16,
        max_waiting: int = 64,
        prefix_bytes: int = 256 << 20,
    ) -> None:
        self.adapters = adapters
        self._stops = frozenset(stop_tokens)
        self._decode = decode
        self._context, self._max_rows, self._max_waiting = context, max_rows, max_waiting
        self._prefix_bytes = prefix_bytes
        self._states = rows_for(adapters, prefix_bytes)
        self._rows: list[_Row] = []
        self._waiting: deque[Request] = deque()
        self._cancelled: set[str] = set()
        self._counted: Counter[str] = Counter()

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self._rows or self._waiting)

    @property
    def adapters_in_use(self) -> set[str]:
        """The adapters that requests wait for or are answered by."""
        requests = [*self._waiting, *(row.request for row in self._rows)]
        return {request.adapter for request in requests if request.adapter is not None}

    def submit(self, request: Request) -> None:
        """Take a request; raise QueueFull, or a UserError for one that can never be answered."""
        room = self._context - len(request.tokens)
        if not request.tokens:
            raise DataError("the prompt has 0 tokens; it must have at least 1.")
        if room < 1:  # in words that clients of OpenAI look for
            raise PromptTooLong(
                f"This model's maximum context length is {self._context} tokens, and your messages resulted in "
                f"{len(request.tokens)} tokens, which leaves no room for an answer. Shorten them."
            )
        if request.sampling.n > self._max_rows:
            raise DataError(f"n is {request.sampling.n}; at most {self._max_rows} answers are decoded at once.")
        self.adapters.use(request.adapter)
        if len(self._waiting) >= self._max_waiting:
            raise QueueFull(f"{len(self._waiting)} requests are waiting already. Try again later.")
        self._waiting.append(request)

    def cancel(self, request: str) -> None:
        """Free the rows of a request at the next step; an unknown or finished one is no fault."""
        self._cancelled.add(request)

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Run one token of every row and let waiting requests join; return what happened, in order."""
        events = self._leave()
        logits = [self._states.advance([row.tokens[-1] for row in self._rows])] if self._rows else []
        if joined := self._joining():
            logits.append(self._join(joined))
        if self._rows:
            events += self._choose(torch.cat(logits))
        return events

    def fail(self, message: str) -> list[Event]:
        """End every request that runs with an error, and begin anew with empty caches."""
        events: list[Event] = [self._finished(row, "error", message) for row in self._rows]
        self._rows = []
        self._states = rows_for(self.adapters, self._prefix_bytes)
        return events

    def stats(self) -> JsonObject:
        """Return counts and bytes for operators; no content."""
        counted = {name: self._counted[name] for name in ("requests", "tokens_in", "tokens_cached", "tokens_out")}
        return {
            "running": len(self._rows), "waiting": len(self._waiting), "adapters": list(self.adapters.names),
            "bytes": {**self._states.num_bytes()}, **counted,
        }  # fmt: skip

    def _leave(self) -> list[Event]:
        """Let the rows of cancelled requests go."""
        events: list[Event] = []
        for place in range(len(self._rows) - 1, -1, -1):
            if self._rows[place].request.id in self._cancelled:
                events.append(self._finished(self._rows[place], "cancelled"))
                self._drop(place)
        for request in [request for request in self._waiting if request.id in self._cancelled]:
            self._waiting.remove(request)
            events += [
                Finished(request.id, choice, "cancelled", len(request.tokens), 0, ())
                for choice in range(request.sampling.n)
            ]
        self._cancelled.clear()
        return events

    def _joining(self) -> list[Request]:
        """Take requests from the queue while there are rows for all their choices and the prompts are not too long."""
        joined: list[Request] = []
        rows, tokens = len(self._rows), 0
        while self._waiting and rows + self._waiting[0].sampling.n <= self._max_rows:
            tokens += len(self._waiting[0].tokens)
            if joined and tokens > PREFILL_TOKENS:
                break
            joined.append(self._waiting.popleft())
            rows += joined[-1].sampling.n
        return joined

    def _join(self, requests: Sequence[Request]) -> torch.Tensor:
        """Run the prompts and add a row for every choice; return the logits behind their prompts."""
        first = len(self._rows)
        logits_BV, known = self._states.join([Asked(request.tokens, request.adapter) for request in requests])
        self._rows += [self._row(request, 0, cached) for request, cached in zip(requests, known)]
        lines = list(range(len(requests)))
        for place, request in enumerate(requests):
            for choice in range(1, request.sampling.n):
                self._states.repeat(first + place)
                self._rows.append(self._row(request, choice, len(request.tokens)))
                lines.append(place)
            self._counted.update(requests=1, tokens_in=len(request.tokens), tokens_cached=known[place])
        return logits_BV[lines]

    def _row(self, request: Request, choice: int, cached: int) -> _Row:
        sampling = request.sampling
        seed = secrets.randbits(62) if sampling.seed is None else sampling.seed
        return _Row(
            request, choice, cached, min(sampling.max_tokens, self._context - len(request.tokens)),
            TextStream(self._decode), StopStrings(sampling.stop),
            None if request.grammar is None else request.grammar.start(), generator(seed, "choice", choice),
        )  # fmt: skip

    def _choose(self, logits_BV: torch.Tensor) -> list[Event]:
        """Choose the next token of every row, tell of it, and let finished rows go."""
        tokens, broken = _next_tokens(logits_BV, self._rows)
        events: list[Event] = []
        finished: list[int] = []
        for place, row in enumerate(self._rows):
            if place in broken:
                events.append(self._finished(row, "error", broken[place]))
                finished.append(place)
                continue
            told, ending = self._accept(row, tokens[place], logits_BV[place])
            events += told
            if ending:
                events.append(self._finished(row, ending))
                finished.append(place)
        for place in reversed(finished):
            self._drop(place, spoiled=place in broken)
        return events

    def _accept(self, row: _Row, token: int, logits_V: torch.Tensor) -> tuple[list[Event], Ending | None]:
        """Add a token to its row; return what there is to tell, and how the row ends if it does."""
        row.tokens.append(token)
        row.counts[token] += 1
        self._counted["tokens_out"] += 1
        stopped = token in self._stops
        text = row.stops.push("" if stopped else row.text.push(token))
        ended = stopped or row.stops.stopped or len(row.tokens) >= row.budget
        if ended and not row.stops.stopped:
            text += row.stops.push(row.text.rest())
        if ended and not row.stops.stopped:
            text += row.stops.rest()
        if not ended and row.matcher is not None:
            row.matcher.accept(token)
        asked = row.request.sampling.logprobs
        probabilities = () if asked is None or stopped else (self._logprob(token, logits_V, asked),)
        events = [Delta(row.request.id, row.choice, text, probabilities)] if text or probabilities else []
        return [*events], ("stop" if stopped or row.stops.stopped else "length") if ended else None

    def _logprob(self, token: int, logits_V: torch.Tensor, most: int) -> TokenLogprob:
        logs_V = torch.log_softmax(logits_V.float(), dim=-1)
        best = logs_V.topk(most) if most else None
        top = () if best is None else zip(best.indices.tolist(), best.values.tolist())
        return TokenLogprob(
            self._decode([token]), float(logs_V[token]), tuple((self._decode([other]), log) for other, log in top)
        )

    def _finished(self, row: _Row, reason: Ending, error: str | None = None) -> Finished:
        request = row.request
        return Finished(request.id, row.choice, reason, len(request.tokens), row.cached, tuple(row.tokens), error)

    def _drop(self, place: int, *, spoiled: bool = False) -> None:
        self._states.drop(place, spoiled=spoiled)
        self._rows[place] = self._rows[-1]
        self._rows.pop()


def _next_tokens(logits_BV: torch.Tensor, rows: Sequence[_Row]) -> tuple[list[int], dict[int, str]]:
    """Return a token for each row, and what went wrong in the rows that have none."""
    broken = {
        place: "the model's logits are no finite numbers; its weights may be damaged."
        for place, fine in enumerate(torch.isfinite(logits_BV.max(dim=-1).values).tolist())
        if not fine
    }
    allowed: list[Matcher | None] = []
    for place, row in enumerate(rows):
        allowed.append(row.matcher)
        if row.matcher is not None and (fault := _fault(row.matcher)):
            broken[place], allowed[place] = fault, None
    logits_BV = masked(_penalized(logits_BV, rows), allowed)
    tokens_B = logits_BV.argmax(dim=-1)
    drawn = [place for place, row in enumerate(rows) if not row.request.sampling.greedy and place not in broken]
    if drawn:
        columns = [
            [rows[place].numbers.random(), rows[place].request.sampling.temperature, rows[place].request.sampling.top_p]
            for place in drawn
        ]
        uniform, temperature, top_p = torch.tensor(columns, device=logits_BV.device).split(1, dim=1)
        tokens_B[drawn] = sampled(logits_BV[drawn], uniform[:, 0], temperature, top_p)
    return tokens_B.tolist(), broken


def _fault(matcher: Matcher) -> str | None:
    try:
        matcher.allowed()
    except RunFailed as error:
        return str(error)
    return None


def _penalized(logits_BV: torch.Tensor, rows: Sequence[_Row]) -> torch.Tensor:
    """Lower the logits of tokens that a row has said: by one penalty once, by the other as often as it said them."""
    out_BV = logits_BV
    for place, row in enumerate(rows):
        once, each = row.request.sampling.presence_penalty, row.request.sampling.frequency_penalty
        if row.counts and (once or each):
            out_BV = out_BV.clone() if out_BV is logits_BV else out_BV
            tokens = torch.tensor(list(row.counts), device=logits_BV.device)
            times = torch.tensor(list(row.counts.values()), dtype=logits_BV.dtype, device=logits_BV.device)
            out_BV[place, tokens] -= once + each * times
    return out_BV
