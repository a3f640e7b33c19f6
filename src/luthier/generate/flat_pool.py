"""Rows of a serving engine laid flat: known beginnings of prompts stand once, for all rows behind them.

A prompt whose beginning is known stands behind a beginning that another running row stands behind already, where that
holds at least half of what is known, and writes the rest of it into its own line; else a beginning is made for it, which
goes with the last row behind it.

B is the number of rows, V the size of the vocabulary.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedConfig

from luthier.generate.adapters import Adapters
from luthier.generate.asked import Asked, run_first
from luthier.generate.lines import Lines, beginning_of
from luthier.generate.passes import Step
from luthier.generate.prefix import PIECE, Piece, PrefixCache
from luthier.kernels.line_attention import Beginning

# A shorter beginning is copied into the row's own line: a product of its own costs more than it saves.
_LEAST = 2 * PIECE


class FlatPool:
    """Rows that read what they begin with together."""

    def __init__(self, adapters: Adapters, config: PreTrainedConfig, prefix_bytes: int) -> None:
        self._adapters = adapters
        self._config = config
        self._lines = Lines(config)
        self._prefixes = PrefixCache(prefix_bytes)
        self._rows: list[Asked] = []
        self._weights: list[str] = []

    def join(self, asked: Sequence[Asked]) -> tuple[torch.Tensor, list[int]]:
        """Run prompts; where several begin alike and the beginning is new, it runs before them."""
        weights = self._adapters.use(asked[0].adapter)
        if not (run_first(asked) and not self._prefixes.match(weights, asked[0].tokens)):
            return self._joined(asked)
        tokens = asked[0].tokens[: _num_alike(asked)]
        apart = Lines(self._config)
        line = apart.add()
        apart.run(self._adapters.model, [Step(line, tokens)], self._adapters.arguments([asked[0].adapter]))
        self._prefixes.store(weights, tokens, lambda start, end: apart.read(line, start, end))
        logits_BV, known = self._joined(asked)
        return logits_BV, [0, *known[1:]]

    def repeat(self, row: int) -> None:
        """Copy a row to a new one at the end."""
        self._lines.copy(row)
        self._rows.append(self._rows[row])
        self._weights.append(self._weights[row])

    def advance(self, tokens: Sequence[int]) -> torch.Tensor:
        """Run one more token of every row."""
        steps = [Step(line, (token,)) for line, token in enumerate(tokens)]
        names = [one.adapter for one in self._rows]
        if len(set(names)) == 1:
            names = names[:1]
        return self._lines.run(self._adapters.model, steps, self._adapters.arguments(names))

    def drop(self, row: int, *, spoiled: bool = False) -> None:
        """Let a row go; with the last one the memory goes too."""
        self._lines.drop(row, spoiled=spoiled)
        self._rows[row], self._weights[row] = self._rows[-1], self._weights[-1]
        self._rows.pop()
        self._weights.pop()

    def num_bytes(self) -> dict[str, int]:
        """Count the bytes of the running rows, with the beginnings that they share, and of known prompts."""
        return {"rows": self._lines.num_bytes(), "prefixes": self._prefixes.num_bytes}

    def _joined(self, asked: Sequence[Asked]) -> tuple[torch.Tensor, list[int]]:
        weights = [self._adapters.use(one.adapter) for one in asked]
        pieces = [self._prefixes.match(own, one.tokens) for own, one in zip(weights, asked)]
        known = [len(found) * PIECE for found in pieces]
        steps = [
            Step(self._added(own, one, found), one.tokens[start:])
            for own, one, found, start in zip(weights, asked, pieces, known)
        ]
        logits_BV = self._run(asked, steps)
        for own, one, step in zip(weights, asked, steps):
            self._prefixes.store(own, one.tokens, lambda start, end, line=step.line: self._lines.read(line, start, end))
        return logits_BV, known

    def _added(self, weights: str, one: Asked, found: Sequence[Piece]) -> int:
        """Add a row whose first pieces are known; return its line."""
        beginning = self._shared(weights, one, found)
        line = self._lines.add(beginning)
        self._rows.append(one)
        self._weights.append(weights)
        if rest := found[0 if beginning is None else beginning.num_tokens // PIECE :]:
            self._lines.write(line, rest)
        return line

    def _shared(self, weights: str, one: Asked, found: Sequence[Piece]) -> Beginning | None:
        """Return a beginning for a prompt: the longest that a running row stands behind, or a new one."""
        known = len(found) * PIECE
        if known < _LEAST:
            return None
        best: Beginning | None = None
        for own, row, beginning in zip(self._weights, self._rows, self._lines.beginnings):
            if beginning is None or own != weights or not known <= 2 * beginning.num_tokens <= 2 * known:
                continue
            alike = row.tokens[: beginning.num_tokens] == one.tokens[: beginning.num_tokens]
            if alike and (best is None or best.num_tokens < beginning.num_tokens):
                best = beginning
        return best or beginning_of(found)

    def _run(self, asked: Sequence[Asked], steps: Sequence[Step]) -> torch.Tensor:
        """Run the rows of one adapter at a time, since their tokens lie in one row of the model's batch."""
        out_V: dict[int, torch.Tensor] = {}
        for name in dict.fromkeys(one.adapter for one in asked):
            places = [place for place, one in enumerate(asked) if one.adapter == name]
            arguments = self._adapters.arguments([name])
            out_V |= dict(zip(places, self._lines.run(self._adapters.model, [steps[p] for p in places], arguments)))
        return torch.stack([out_V[place] for place in range(len(asked))])


def _num_alike(asked: Sequence[Asked]) -> int:
    """Count the tokens, in whole pieces, that the first prompt and all that begin with its first piece have in common."""
    first = asked[0]
    alike = [one for one in asked if one.adapter == first.adapter and one.tokens[:PIECE] == first.tokens[:PIECE]]
    shortest = min(len(one.tokens) for one in alike)
    same = (len({one.tokens[place] for one in alike}) == 1 for place in range(shortest))
    common = next((place for place, is_same in enumerate(same) if not is_same), shortest)
    return max(PIECE, min(common, shortest - 1) // PIECE * PIECE)
