"""What asking an incumbent can cost at most, known before it is asked.

A byte-level tokenizer makes no more tokens of a text than it has bytes, whoever's it is, and what a chat template adds is
a few tokens a message. So the bytes of the sealed questions bound the tokens that are paid for, without knowing how the
incumbent counts. The bound is several times what is spent in the end; it is a promise, not an estimate.
"""

import json
import math
from dataclasses import dataclass, replace

from luthier.core.errors import ResourceError
from luthier.core.rundir import RunDir
from luthier.core.types import Conversation, Row
from luthier.data.store import content_json, read_stored
from luthier.verdict.cost import ArmPrice

_TOKENS_A_MESSAGE = 16
_TIMES_LONGEST_ANSWER = 1.25  # as recipes/answer.py allows
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Purse:
    """What is left of a budget, and for how many jobs; `left` is None where there is none to keep to."""

    left: float | None
    price: ArmPrice
    currency: str
    jobs: int = 1

    def dealt(self, jobs: int) -> "Purse":
        """Return the same money, from which the next of so many jobs may take its share."""
        return replace(self, jobs=jobs)

    def reach(self, run: RunDir) -> float:
        """Return which share of a run's sealed test its part of the money pays for; 1 or more where it pays for all."""
        if self.left is None or not (most := most_money(run, self.price)):
            return 1.0
        return self.left / self.jobs / most

    def without(self, run: RunDir, incumbent: str) -> "Purse":
        """Return what is left when the sealed test of a run is asked; raise ResourceError when it does not reach."""
        if self.left is None:
            return self
        most = most_money(run, self.price)
        if most > self.left:
            raise ResourceError(
                f"asking {incumbent} the sealed test can cost up to {most:.2f} {self.currency}, and {self.left:.2f} are left of the "
                f"budget. Nothing was asked; give a larger --money or fewer --requests, and another --out."
            )
        return replace(self, left=self.left - most)


def most_money(run: RunDir, price: ArmPrice) -> float:
    """Return what the answers to a run's sealed test cost at most, each question asked once."""
    longest = max((_answer_bytes(row) for row in read_stored(run.part("train"))), default=0)
    questions = [_question_tokens(row) for row in read_stored(run.part("test"))]
    answers = len(questions) * math.ceil(_TIMES_LONGEST_ANSWER * (longest + _TOKENS_A_MESSAGE))
    return (sum(questions) * price.input_per_million + answers * price.output_per_million) / _MILLION


def _question_tokens(row: Row) -> int:
    """Bound the tokens of a row's question by the bytes of the whole row: a question for each of its answered turns."""
    content = content_json(row.content)
    size = len(json.dumps(content, ensure_ascii=False).encode())
    messages = row.content.messages if isinstance(row.content, Conversation) else ()
    turns = max(1, sum(message.role == "assistant" for message in messages))
    return turns * (size + _TOKENS_A_MESSAGE * (len(messages) + 1))


def _answer_bytes(row: Row) -> int:
    messages = row.content.messages if isinstance(row.content, Conversation) else ()
    sizes = [
        len(json.dumps(message.as_dict(), ensure_ascii=False).encode())
        for message in messages
        if message.role == "assistant"
    ]
    return max(sizes, default=0)
