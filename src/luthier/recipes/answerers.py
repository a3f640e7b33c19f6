"""Who writes the answers: a model that is loaded here, or one behind an endpoint; every answer goes to a journal at once.

A line of the journal is one answer. What lies there from an earlier process is not asked again.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Literal, Protocol

import torch

from luthier.core.endpoint import Client, Decoding
from luthier.core.errors import DataError, ResourceError
from luthier.core.journal import Journal, entries
from luthier.core.types import Completion, JsonObject, Prompt
from luthier.data.problems import RowProblem
from luthier.recipes.decode import decoder
from luthier.recipes.job import Job
from luthier.recipes.prompt_sources import TokenCounter
from luthier.recipes.voice import Voice
from luthier.verdict.asking import Candidate
from luthier.verdict.questions import Question

Line = JsonObject


class Answerer(Protocol):
    """Answers questions in one way of asking."""

    def lines(self, candidate: Candidate, asked: Sequence[Question], done: Collection[str]) -> Iterator[list[Line]]:
        """Yield the answers to the questions whose rows are not `done`, those together that came together."""
        ...


def journaled(
    answerer: Answerer, candidate: Candidate, asked: Sequence[Question], path: Path, title: str, voice: Voice
) -> dict[str, Line]:
    """Return the answer to each row, going on with what the journal at `path` holds."""
    rows = {question.row.id for question in asked}
    done = {str(entry["row"]): entry for entry in entries(path)}
    if rows <= done.keys():
        return done
    with Journal(path) as journal, voice.bar(title, len(asked)) as bar:
        for lines in answerer.lines(candidate, asked, frozenset(done)):
            for line in lines:
                done[str(line["row"])] = line
                journal.write(line)
            journal.sync()
            bar.show(len(rows & done.keys()))
    return done


class ModelAnswerer:
    """Answers with the base or the tuned weights."""

    def __init__(self, job: Job, weights: Literal["base", "tuned"]) -> None:
        self._job = job
        self._decoder = decoder(job, weights)

    def lines(self, candidate: Candidate, asked: Sequence[Question], done: Collection[str]) -> Iterator[list[Line]]:
        """Yield the answers batch by batch.

        Batches are those of all questions, whatever is done, so that an answer does not depend on where a run was stopped.
        """
        prompts = [Prompt(question.row.id, self._tokens(candidate, question), question.text) for question in asked]
        sizes = {prompt.row: len(prompt.tokens) for prompt in prompts}
        for batch in self._decoder.batches(prompts):
            if any(prompt.row not in done for prompt in batch):
                with torch.inference_mode():
                    completions = self._decoder.complete_batch(batch)
                yield [completion_line(one, sizes[one.row]) for one in completions if one.row not in done]

    def _tokens(self, candidate: Candidate, question: Question) -> tuple[int, ...]:
        """Return the prompt; what the candidate adds is cut down until the answer has room in the model's context."""
        most = self._job.context - (self._job.settings.generate.max_new_tokens or 0)
        room = self._job.settings.compare.added_tokens
        tokens = self._rendered(candidate, question, room)
        while len(tokens) > most and room > 0:
            room //= 2
            tokens = self._rendered(candidate, question, room)
        return tokens

    def _rendered(self, candidate: Candidate, question: Question, room: int) -> tuple[int, ...]:
        try:
            return tuple(self._job.renderer.prompt(candidate.ask(question, room), question.tools))
        except RowProblem as problem:
            raise DataError(
                f"the row {question.row.id} cannot be asked {candidate.name!r} of this model: {problem.rule}: {problem.detail}"
            ) from problem


class EndpointAnswerer:
    """Answers through an endpoint, several requests at a time."""

    def __init__(self, job: Job) -> None:
        generate, settings = job.settings.generate, job.settings.compare
        assert generate.max_new_tokens
        self._decoding = Decoding(generate.max_new_tokens, generate.temperature, generate.top_p, job.settings.seed)
        self._client = Client(settings.endpoint, self._decoding)
        self._settings = settings
        self._count = TokenCounter(job.tokenizer)

    def lines(self, candidate: Candidate, asked: Sequence[Question], done: Collection[str]) -> Iterator[list[Line]]:
        """Yield the answers one by one as they come; when one fails, those on their way are still waited for."""
        left = [question for question in asked if question.row.id not in done]
        self.refuse_beyond_budget(len(left))
        pool = ThreadPoolExecutor(self._settings.endpoint.at_once)
        try:
            futures = [pool.submit(self._line, candidate, question) for question in left]
            yield from ([line] for line in _finished(futures))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _line(self, candidate: Candidate, question: Question) -> Line:
        messages = candidate.ask(question, self._settings.added_tokens)
        reply = self._client.ask(messages, question.tools)
        tokens_in = (
            sum(self._count(message.content) for message in messages) if reply.tokens_in is None else reply.tokens_in
        )
        tokens_out = self._count(reply.text) if reply.tokens_out is None else reply.tokens_out
        return answer_line(question.row.id, reply.text, reply.finish_reason, (tokens_in, tokens_out), reply.seconds)

    def refuse_beyond_budget(self, needed: int) -> None:
        """Raise ResourceError where more answers are needed than requests are left, before any is sent."""
        endpoint = self._settings.endpoint
        if self._client.requests + needed > endpoint.requests:
            raise ResourceError(
                f"{needed:,} answers are wanted of {endpoint.url}, and {endpoint.requests - self._client.requests:,} of "
                f"{endpoint.requests:,} requests are left. Raise compare.endpoint.requests, or ask on fewer rows."
            )


def completion_line(completion: Completion, tokens_in: int) -> Line:
    """Return the journal's line for an answer that was decoded here."""
    counts = (tokens_in, len(completion.tokens))
    line = answer_line(completion.row, completion.text, completion.finish_reason, counts, completion.seconds)
    return line if completion.log_probability is None else line | {"confidence": math.exp(completion.log_probability)}


def answer_line(row: str, text: str, finish_reason: str, tokens: tuple[int, int], seconds: float) -> Line:
    """Return the journal's line for an answer; `tokens` are those of the prompt and of the answer."""
    return {
        "row": row, "text": text, "finish_reason": finish_reason, "tokens_in": tokens[0], "tokens_out": tokens[1],
        "seconds": seconds,
    }  # fmt: skip


def _finished(futures: Sequence[Future[Line]]) -> Iterator[Line]:
    """Yield results as they come; after a failure the waiting are cancelled, the running finished, then it is raised."""
    failure: BaseException | None = None
    for future in as_completed(futures):
        if future.cancelled():
            continue
        error = future.exception()
        if error is None:
            yield future.result()
        elif failure is None:
            failure = error
            for waiting in futures:
                waiting.cancel()
    if failure is not None:
        raise failure
