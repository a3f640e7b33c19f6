"""Prompts to completions, in batches, with a key-value cache.

Knows nothing of conversations: prompts come as tokens, and `unrender` turns an answer's tokens into
text. Rows lie flat (`flat.py`) or are padded on the left (`padded.py`); what the prompts of a batch begin with in common is computed once;
rows leave the batch as they finish. A row's answer does not depend on its batch, up to the rounding
of sums: positions, masks and the numbers behind sampling are its own.

B is the number of rows that run, T the tokens of a stretch, V the size of the vocabulary.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from peft import PeftModel
from torch import nn
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel

from luthier.compat.allocation import keep_some_memory
from luthier.core.errors import DataError, ResourceError
from luthier.core.hashing import generator
from luthier.core.types import Completion, FinishReason, Prompt
from luthier.generate.constrain import Matcher, masked
from luthier.generate.flat import FlatRows, laid_flat, lies_flat, may_lie_flat
from luthier.generate.padded import Padding, padded_rows
from luthier.generate.sample import greedy, log_probability, sampled
from luthier.kernels import decode_attention, native_layers, packed_linear

MOST_ROWS = 64
_TOKENS = 32_768
_SHRINK = 0.9


class Running(Protocol):
    """The rows of a batch while they are decoded; line i of `logits_BV` belongs to `rows[i]`."""

    rows: list[int]
    logits_BV: torch.Tensor

    def keep(self, lines: list[int]) -> None:
        """Let all other lines go."""
        ...

    def advance(self, tokens_B: torch.Tensor) -> None:
        """Run one more token of every row."""
        ...

    def look(self, stretches: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Return the logits behind every token of a stretch behind each row, T x V; the rows stay where they are."""
        ...


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Put the model into evaluation mode, with attention and weights made for decoding, and back into its own."""
    was_training = model.training
    assert isinstance(model, PreTrainedModel | PeftModel)
    model.eval()
    keep_some_memory()
    try:
        attention = laid_flat(model) if may_lie_flat(model) else decode_attention.used(model)
        with attention, packed_linear.packed(model), native_layers.used(model):
            yield
    finally:
        model.train(was_training)


@contextmanager
def memory_bounded(rows: int, device: torch.device) -> Generator[None]:
    """Raise ResourceError, which says what to set, where `rows` prompts at once do not fit the memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"{rows} prompts at once do not fit the memory of {device}. "
            f"Set generate.batch_size to {max(1, rows // 2)} or less."
        ) from error


def rows_at_once(batch_size: int | None, num_tokens: int) -> int:
    """Return how many rows of so many tokens, the answer included, are decoded together."""
    return min(batch_size or MOST_ROWS, max(1, _TOKENS // max(1, num_tokens)))


class Engine:
    """Decodes with one model: greedily at temperature 0, else sampled from counted random numbers.

    With a `matcher`, every answer that ends by itself is one that the matcher of its prompt allows.
    """

    def __init__(
        self,
        model: nn.Module,
        stop_tokens: Sequence[int],
        pad_token: int,
        *,
        unrender: Callable[[Sequence[int]], str],
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        batch_size: int | None = None,
        matcher: Callable[[Prompt], Matcher] | None = None,
    ) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self._stops = frozenset(stop_tokens)
        self._pad = pad_token
        self._unrender = unrender
        self._max_new_tokens = max_new_tokens
        self._temperature, self._top_p, self._seed = temperature, top_p, seed
        self._batch_size = batch_size or MOST_ROWS
        self._matcher = matcher
        assert isinstance(model.config, PreTrainedConfig)
        self._config = model.config
        text = model.config.get_text_config(decoder=True).to_dict()
        self._context: int | None = text.get("max_position_embeddings")
        empty = DynamicCache(config=model.config)
        # Recurrent layers cannot drop rows, and see padding; their batches have one length and run to the end.
        self._attends = empty.is_croppable
        self.attends_to_all = self._attends and not any(empty.is_sliding)

    def __call__(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Complete the prompts, in their order."""
        order = {id(prompt): index for index, prompt in enumerate(prompts)}
        done: dict[int, Completion] = {}
        for batch in self.batches(prompts):
            done |= {order[id(prompt)]: item for prompt, item in zip(batch, self.complete_batch(batch))}
        return [done[index] for index in range(len(prompts))]

    def complete(self, prompts: Sequence[Prompt]) -> Iterator[Completion]:
        """Yield completions batch by batch, the longest prompts first; each names its row."""
        for batch in self.batches(prompts):
            yield from self.complete_batch(batch)

    def batches(self, prompts: Sequence[Prompt]) -> list[list[Prompt]]:
        """Deal prompts of like length into batches; the same prompts always make the same batches."""
        batches: list[list[Prompt]] = []
        for prompt in sorted(prompts, key=lambda prompt: -len(prompt.tokens)):
            longest = len(batches[-1][0].tokens) if batches else 0
            most = rows_at_once(self._batch_size, longest + self._max_new_tokens)
            same = self._attends or longest == len(prompt.tokens)
            if batches and same and len(batches[-1]) < most:
                batches[-1].append(prompt)
            else:
                batches.append([prompt])
        return batches

    def complete_batch(self, batch: Sequence[Prompt]) -> list[Completion]:
        """Complete one batch, in its order; raise ResourceError where its cache does not fit the memory."""
        started = time.monotonic()
        answers: list[list[int]] = [[] for _ in batch]
        logs = [0.0] * len(batch)
        with memory_bounded(len(batch), self.device):
            for row, token, log in self._tokens(batch):
                answers[row].append(token)
                logs[row] += log
        seconds = (time.monotonic() - started) / len(batch)
        return [
            Completion(prompt.row, self._unrender(answer), tuple(answer), self._reason(answer), seconds, log)
            for prompt, answer, log in zip(batch, answers, logs)
        ]

    def stream(self, prompt: Prompt) -> Iterator[int]:
        """Yield one prompt's answer token by token, without the stop token."""
        for _, token, _ in self._tokens([prompt]):
            if token not in self._stops:
                yield token

    def _reason(self, answer: list[int]) -> FinishReason:
        return "stop" if answer and answer[-1] in self._stops else "length"

    @torch.inference_mode()
    def _tokens(self, batch: Sequence[Prompt]) -> Iterator[tuple[int, int, float]]:
        """Yield (row, token, log-probability) as the batch is decoded; a row's last token is a stop token or its budget's last."""
        with evaluating(self.model):
            yield from self._decoded(batch)

    def _decoded(self, batch: Sequence[Prompt]) -> Iterator[tuple[int, int, float]]:
        budgets = [self._budget(prompt) for prompt in batch]
        uniform = self._uniform(batch)
        matchers = [None if self._matcher is None else self._matcher(prompt) for prompt in batch]
        running = self.prefilled(batch)
        finished: set[int] = set()
        for step in range(max(budgets)):
            running.logits_BV = masked(running.logits_BV, [matchers[row] for row in running.rows])
            tokens_B = self._choice(running, uniform, step)
            logs = log_probability(running.logits_BV, tokens_B).tolist()
            for row, token, log in zip(running.rows, tokens_B.tolist(), logs):
                if row not in finished:
                    yield row, token, log
                    if token in self._stops or step + 1 == budgets[row]:
                        finished.add(row)
                        matchers[row] = None
                    elif (matcher := matchers[row]) is not None:
                        matcher.accept(token)
            lines = [line for line, row in enumerate(running.rows) if row not in finished]
            if not lines:
                return
            if self._attends and len(lines) <= _SHRINK * len(running.rows):
                running.keep(lines)
                tokens_B = tokens_B[torch.tensor(lines, device=self.device)]
            running.advance(tokens_B)

    def _budget(self, prompt: Prompt) -> int:
        room = self._max_new_tokens if self._context is None else self._context - len(prompt.tokens)
        if not prompt.tokens or room < 1:
            raise DataError(
                f"the prompt of row {prompt.row} has {len(prompt.tokens)} tokens; it must have at least 1 and leave "
                f"room for an answer in the model's context of {self._context}. Shorten the row or leave it out."
            )
        return min(room, self._max_new_tokens)

    def _uniform(self, batch: Sequence[Prompt]) -> torch.Tensor | None:
        if self._temperature == 0:
            return None
        numbers = [generator(self._seed, "sample", prompt.row).random(self._max_new_tokens) for prompt in batch]
        return torch.tensor(np.stack(numbers), dtype=torch.float32, device=self.device)

    def _choice(self, running: Running, uniform: torch.Tensor | None, step: int) -> torch.Tensor:
        if uniform is None:
            return greedy(running.logits_BV)
        return sampled(running.logits_BV, uniform[running.rows, step], self._temperature, self._top_p)

    def prefilled(self, batch: Sequence[Prompt]) -> Running:
        """Run the prompts, what they share once; the model must be in the state that `evaluating` gives it."""
        assert isinstance(self.model, PreTrainedModel | PeftModel)
        if lies_flat(self.model):
            return FlatRows(self.model, self._config, batch)
        return padded_rows(
            Padding(self.model, self._config, self._pad, self._max_new_tokens, self.attends_to_all), batch
        )
