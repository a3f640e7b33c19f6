"""How long the rows are, which are cut or do not fit, and how much of them is a common beginning.

With a model the lengths are those of its tokenizer and template. Without one they are estimated, at
four bytes a token, and the finding says so; then only rows that are far longer than the others are named.

What it cannot see: whether what is cut off mattered, and what the template adds when no model is named.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import numpy as np

from luthier.core.types import Conversation, Finding, Message, Preference, Row, Text
from luthier.data.checking import Context, Dimension, RowLength
from luthier.data.shared_prefix import SharedPrefix

_BYTES_A_TOKEN = 4
_ROWS_A_BATCH = 256
_FAR_LONGER = 20
_LONG_TOKENS = 4096
_MOST_NAMED = 4
_TOO_LONG = "too-long"  # what the renderer says of a row over the context


class Check:
    """Measure every row; report the distribution, rows that are cut, and rows that do not fit."""

    dimension: ClassVar[Dimension] = "fits"
    effect: ClassVar[str] = "what is cut off is never learned, and a row that does not fit is not trained at all"
    blind: ClassVar[str] = "whether what is cut off mattered"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._batch: list[Row] = []
        self._tokens = array("q")
        self._trained = array("q")
        self._lost: dict[int, int] = {}
        self._problems: dict[str, list[int]] = {}
        self._prefix = SharedPrefix()

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Measure the row, in batches as a tokenizer likes them."""
        for text in sequences(row):
            self._prefix.add(text)
        if self._context.measure is None:
            self._enter(estimated(row))
            return ()
        self._batch.append(row)
        if len(self._batch) == _ROWS_A_BATCH:
            self._measure_batch()
        return ()

    def end(self) -> Iterator[Finding]:
        """Yield the rows that do not fit, those that are cut, those far longer than the others, and the distribution."""
        self._measure_batch()
        if not self._tokens:
            return
        for problem, positions in self._problems.items():
            yield self._unfit(problem, positions)
        if self._lost:
            yield self._cut()
        tokens_N = np.array(self._tokens)
        far = self._far_longer(tokens_N)
        if far:
            yield self._outliers(far, tokens_N)
        yield self._distribution(tokens_N)

    def _measure_batch(self) -> None:
        if self._context.measure is not None and self._batch:
            for length in self._context.measure(self._batch):
                self._enter(length)
        self._batch = []

    def _enter(self, length: RowLength) -> None:
        position = len(self._tokens)
        self._tokens.append(length.tokens)
        self._trained.append(length.trained)
        if length.problem is not None:
            self._problems.setdefault(length.problem, []).append(position)
        elif length.lost:
            self._lost[position] = length.lost

    def _unfit(self, problem: str, positions: Sequence[int]) -> Finding:
        return Finding(
            check="lengths", kind="does-not-fit" if problem == _TOO_LONG else "cannot-be-rendered", severity="error", confidence=1.0, rows=self._ids(positions),
            detail=f"{_rows(len(positions))} cannot be trained: {problem} ({self._places(positions)}).",
            fix="Shorten or split them, or raise train.max_length where the model's context allows it."
            if problem == _TOO_LONG
            else "Look at the rows; the model's chat template does not take them as they are.",
        )  # fmt: skip

    def _cut(self) -> Finding:
        positions, lost = list(self._lost), sum(self._lost.values())
        return Finding(
            check="lengths", kind="truncated", severity="warning", confidence=1.0, rows=self._ids(positions),
            detail=f"{_rows(len(positions))} of {len(self._tokens):,} are cut, and {lost:,} tokens are lost "
            f"({self._places(positions)}).",
            fix="Raise train.max_length where the model's context allows it, or shorten these rows.",
        )  # fmt: skip

    def _far_longer(self, tokens_N: np.ndarray) -> list[int]:
        least = max(_LONG_TOKENS, _FAR_LONGER * float(np.median(tokens_N)))
        explained = {*self._lost, *(position for of_one in self._problems.values() for position in of_one)}
        return [position for position in np.flatnonzero(tokens_N > least).tolist() if position not in explained]

    def _outliers(self, positions: Sequence[int], tokens_N: np.ndarray) -> Finding:
        share = tokens_N[list(positions)].sum() / tokens_N.sum()
        return Finding(
            check="lengths", kind="far-longer", severity="warning", confidence=0.8, rows=self._ids(positions),
            detail=f"{_rows(len(positions))} {'is' if len(positions) == 1 else 'are'} more than {_FAR_LONGER} times as long "
            f"as the median row and {'holds' if len(positions) == 1 else 'hold'} {share:.0%} of all tokens ({self._places(positions)}).",
            fix="Look whether something was pasted in by mistake; else split them, or they fill the batches.",
        )  # fmt: skip

    def _distribution(self, tokens_N: np.ndarray) -> Finding:
        low, median, high, top = np.quantile(tokens_N, (0.05, 0.5, 0.95, 0.99), method="nearest").tolist()
        longest = int(tokens_N.argmax())
        measured = self._context.measure is not None
        about, how = (
            ("", "") if measured else ("about ", f", estimated at {_BYTES_A_TOKEN} bytes a token as no model is named")
        )
        trained = f", {sum(self._trained):,} of them trained" if measured else ""
        return Finding(
            check="lengths", kind="distribution", severity="info", confidence=1.0 if measured else 0.5, rows=(),
            detail=f"{_rows(len(tokens_N))} {'has' if len(tokens_N) == 1 else 'have'} {about}{tokens_N.sum():,} tokens{trained}{how}: 5 % have at most {low:,}, "
            f"half {median:,}, 95 % {high:,}, 99 % {top:,}, the longest {tokens_N[longest]:,} "
            f"({self._context.place_at(longest)}). With common beginnings shared they are {self._prefix.ratio:.2f} times shorter.",
            fix="Nothing; this is what a plan of memory, time and money goes by.",
        )  # fmt: skip

    def _ids(self, positions: Sequence[int]) -> tuple[str, ...]:
        return tuple(self._context.place_at(position).id for position in positions)

    def _places(self, positions: Sequence[int]) -> str:
        named = ", ".join(self._place(position) for position in positions[:_MOST_NAMED])
        more = len(positions) - _MOST_NAMED
        return f"{named} and {more:,} more" if more > 0 else named

    def _place(self, position: int) -> str:
        # A row that cannot be rendered has no tokens to count.
        tokens = f" with {self._tokens[position]:,} tokens" if self._tokens[position] else ""
        return f"{self._context.place_at(position)}{tokens}"


def estimated(row: Row) -> RowLength:
    """Return a row's length by its bytes; what is trained is not known without a template."""
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in sequences(row))
    return RowLength(tokens=-(-size // _BYTES_A_TOKEN), trained=0)


def sequences(row: Row) -> Iterator[str]:
    """Yield what is trained as one sequence, in plain words: the two sides of a preference pair are two."""
    match row.content:
        case Text(text):
            yield text
        case Preference(prompt, chosen, rejected):
            yield _said((*prompt, *chosen))
            yield _said((*prompt, *rejected))
        case Conversation(messages):
            yield _said(messages)


def _said(messages: Sequence[Message]) -> str:
    return "\n".join(
        part
        for message in messages
        for part in (message.role, message.reasoning or "", message.content, *map(str, message.tool_calls))
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
