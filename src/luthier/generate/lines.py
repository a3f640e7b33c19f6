"""Keys and values of running rows, and forward passes over the tokens of any rows, laid flat.

A row has a line in one block of memory per layer, with a column for each of its own tokens; what it begins with may stand in a
beginning that it shares with other rows. A pass runs some tokens of some rows: a prompt's, one more of each row, or stretches to look at. Nothing
is padded, a step writes one column a row, and rows that leave are replaced by the last.

n is the number of rows of a pass, N of its tokens, T the tokens of the longest, H the key-value heads, C the columns, E the channels of a
head, V the size of the vocabulary.
"""

from collections.abc import Sequence
from functools import cache, partial
from itertools import accumulate

import torch
from peft import PeftModel
from transformers import Cache, PreTrainedConfig, PreTrainedModel

from luthier.compat.cache_argument import with_cache
from luthier.generate.block_layer import BlockLayer
from luthier.generate.passes import Step, parts, passes
from luthier.kernels import native
from luthier.kernels.line_attention import Beginning, Behind, Part, Pass
from luthier.kernels.native import Rows

_COLUMNS = 32
States = tuple[torch.Tensor, ...]


class Lines:
    """The lines of all layers."""

    def __init__(self, config: PreTrainedConfig) -> None:
        self._num_layers = config.get_text_config(decoder=True).num_hidden_layers
        self._dtype = torch.float32
        self.own: list[int] = []
        self.beginnings: list[Beginning | None] = []
        self.clear()

    def __len__(self) -> int:
        return len(self.own)

    def length(self, line: int) -> int:
        """Return the tokens that a row holds, its beginning included."""
        return self.own[line] + _length(self.beginnings[line])

    def add(self, beginning: Beginning | None = None) -> int:
        """Add an empty line behind a beginning; return its number."""
        self.own.append(0)
        self.beginnings.append(beginning)
        return len(self.own) - 1

    def copy(self, source: int) -> None:
        """Add a line that holds what another holds."""
        line = self.add(self.beginnings[source])
        self._reserve(self.own[source])
        self._move(source, line)

    def drop(self, line: int, *, spoiled: bool = False) -> None:
        """Take a line away; the last one takes its place, and with the last one the memory goes too.

        A spoiled one may hold what is no number, which would spoil sums even where it is hidden.
        """
        last = len(self.own) - 1
        if spoiled:
            for block in self._blocks():
                block[line] = 0
        if line != last:
            self._move(last, line)
        self.beginnings[line] = self.beginnings[last]
        self.own.pop()
        self.beginnings.pop()
        if not self.own:
            self.clear()
        elif 2 * (max(self.own) + _COLUMNS) < self.columns:
            self._resize(len(self.own), max(self.own) + _COLUMNS)

    def keep(self, lines: Sequence[int]) -> None:
        """Let all other lines go, and their memory."""
        index_n = torch.tensor(lines)
        for layer in self.layers:
            layer.select(index_n)
        self.lines = len(lines)
        self.own, self.beginnings = [self.own[line] for line in lines], [self.beginnings[line] for line in lines]

    def beginning(self, line: int) -> Beginning:
        """Return a copy of what a row holds, for others to stand behind."""
        return beginning_of([self.read(line, 0, self.length(line))])

    def crop(self, line: int, tokens: int) -> None:
        """Forget the last tokens of a line."""
        self.own[line] -= tokens

    def read(self, line: int, start: int, end: int) -> States:
        """Return a copy of a stretch of a row: keys and values of each layer, H x (end - start) x E."""
        beginning = self.beginnings[line]
        if beginning is not None and start < beginning.num_tokens:
            assert end <= beginning.num_tokens
            return tuple(states[:, start:end].clone() for layer in beginning.layers for states in layer)
        start, end = start - _length(beginning), end - _length(beginning)
        return tuple(block[line, :, start:end].clone() for block in self._blocks())

    def write(self, line: int, stretches: Sequence[States]) -> None:
        """Write stretches that follow one another to the beginning of an empty line; the first ones make the blocks."""
        self.own[line] = sum(stretch[0].shape[1] for stretch in stretches)
        self._reserve(self.own[line])
        for layer, keys_HTE, values_HTE in zip(self.layers, stretches[0][::2], stretches[0][1::2], strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys_HTE[None], values_HTE[None])
        for block, *pieces in zip(self._blocks(), *stretches, strict=True):
            block[line, :, : self.own[line]] = torch.cat(pieces, dim=1)

    def clear(self) -> None:
        """Give the memory back."""
        assert not self.own
        self.lines = self.columns = 0
        self.line_N = self.column_N = torch.zeros(0, dtype=torch.long)
        self.layers = [_LineLayer(self) for _ in range(self._num_layers)]
        self._cache = Cache(layers=list(self.layers))

    def states(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the blocks of a layer's keys and values."""
        keys, values = self.layers[layer].keys, self.layers[layer].values
        assert keys is not None and values is not None
        return keys, values

    def num_bytes(self) -> int:
        """Count the bytes of all blocks, and of beginnings that rows stand behind."""
        shared = {id(one): one for one in self.beginnings if one is not None}
        blocks = [states for one in shared.values() for layer in one.layers for states in layer] + self._blocks()
        return sum(block.numel() * block.element_size() for block in blocks)

    def run(
        self, model: PreTrainedModel | PeftModel, steps: Sequence[Step], arguments: dict[str, list[str]] | None = None
    ) -> torch.Tensor:
        """Run tokens into their lines and return the logits behind the last of each step, n x V.

        `arguments` go to the model as they are; lists of one word a step let every step have its own.
        """
        out_V: dict[int, torch.Tensor] = {}
        for taken in passes(steps):
            ends = [place for place, _, ended in taken if ended]
            logits_nV = self._forward(model, [step for _, step, _ in taken], arguments or {}, every=False)
            logits_nV = logits_nV if len(ends) == len(taken) else logits_nV[[ended for _, _, ended in taken]]
            if len(ends) == len(steps):
                return logits_nV
            out_V |= dict(zip(ends, logits_nV))
        return torch.stack([out_V[place] for place in range(len(steps))])

    def look(self, model: PreTrainedModel | PeftModel, steps: Sequence[Step]) -> list[torch.Tensor]:
        """Return the logits behind every token of the steps, T x V each; the lines stay as they were."""
        logits_NV = self._forward(model, steps, {}, every=True)
        for step in steps:
            self.crop(step.line, len(step.tokens))
        return list(logits_NV.split([len(step.tokens) for step in steps]))

    def _forward(
        self, model: PreTrainedModel | PeftModel, steps: Sequence[Step], arguments: dict[str, list[str]], *, every: bool
    ) -> torch.Tensor:
        """Run one pass; return the logits behind the last or behind every token of the steps."""
        counts = [len(step.tokens) for step in steps]
        starts = [self.own[step.line] for step in steps]
        self._dtype = model.dtype
        self._reserve(max(start + count for start, count in zip(starts, counts)))
        each = any(len(words) > 1 for words in arguments.values())  # such words are told by rows of the batch
        order = sorted(range(len(steps)), key=lambda place: -counts[place])
        ordered = [steps[place] for place in order]
        first = [0] * len(steps)
        total = 0
        for place in order:
            first[place] = total
            total += counts[place]
        flat = [
            (step.line, self.own[step.line] + offset, token)
            for step in ordered
            for offset, token in enumerate(step.tokens)
        ]
        self.line_N, self.column_N, ids_N = torch.tensor(flat).t().contiguous()
        before_N = torch.tensor([_length(self.beginnings[line]) for line, _, _ in flat])
        shape = (total, 1) if each else (1, total)
        last_n = torch.tensor([first[place] + counts[place] - 1 for place in range(len(steps))])
        logits = model(
            input_ids=ids_N.view(shape), position_ids=(self.column_N + before_N).view(shape), use_cache=True,
            logits_to_keep=0 if every or each else last_n, lines=self._pass(ordered), **with_cache(self._cache), **arguments,
        ).logits.flatten(0, 1)  # fmt: skip
        for step, count in zip(steps, counts):
            self.own[step.line] += count
        if every:
            return torch.cat([logits[first[place] : first[place] + counts[place]] for place in range(len(steps))])
        return logits[last_n] if each else logits

    def _pass(self, steps: Sequence[Step]) -> Pass:
        """Say whose tokens a pass runs, in its order."""
        shared = {id(one): one for step in steps if (one := self.beginnings[step.line]) is not None}
        places = {key: place for place, key in enumerate(shared)}
        counts = [len(step.tokens) for step in steps]
        firsts = [0, *accumulate(counts[:-1])]
        rows = [
            (step.line, first, count, self.own[step.line], places.get(id(self.beginnings[step.line]), -1))
            for step, first, count in zip(steps, firsts, counts)
        ]
        parts = cache(partial(self._parts, steps))
        return Pass(Rows(*torch.tensor(rows).t().contiguous()), tuple(shared.values()), self.states, parts)

    def _parts(self, steps: Sequence[Step]) -> tuple[Part, ...]:
        """Deal a pass's rows, the longest first, into parts."""
        if all(step.line == line and len(step.tokens) == 1 for line, step in enumerate(steps)):
            hidden_nC = torch.arange(self.columns) > self.column_N[:, None]
            return (Part(slice(0, len(steps)), self._added(hidden_nC[:, None]), self._behind(steps)),)
        return tuple(self._part(steps[place], start) for place, start in parts(steps))

    def _part(self, steps: Sequence[Step], start: int) -> Part:
        longest = len(steps[0].tokens)
        count_n1 = torch.tensor([[len(step.tokens)] for step in steps])
        offset_nT = torch.minimum(torch.arange(longest), count_n1 - 1)
        column_nT = torch.tensor([[self.own[step.line]] for step in steps]) + offset_nT
        columns = int(column_nT.max()) + 1
        token_nT = start + count_n1.cumsum(0) - count_n1 + offset_nT
        real_nT = torch.arange(longest) < count_n1
        return Part(
            torch.tensor([step.line for step in steps]), self._added(torch.arange(columns) > column_nT[:, :, None]), self._behind(steps),
            token_nT, real_nT.flatten().nonzero()[:, 0],
        )  # fmt: skip

    def _behind(self, steps: Sequence[Step]) -> tuple[Behind, ...]:
        rows: dict[int, list[int]] = {}
        shared: dict[int, Beginning] = {}
        for row, step in enumerate(steps):
            if (beginning := self.beginnings[step.line]) is not None:
                shared[id(beginning)] = beginning
                rows.setdefault(id(beginning), []).append(row)
        return tuple(
            Behind(shared[key], None if len(own) == len(steps) else torch.tensor(own)) for key, own in rows.items()
        )

    def _added(self, hidden_nTC: torch.Tensor) -> torch.Tensor:
        return torch.zeros(hidden_nTC.shape, dtype=self._dtype).masked_fill_(hidden_nTC, float("-inf"))[:, None]

    def _reserve(self, columns: int) -> None:
        """Make room for all lines, and for so many columns."""
        if len(self.own) <= self.lines and columns <= self.columns:
            return
        self._resize(max(self.lines, len(self.own)), max(self.columns, columns))

    def _resize(self, lines: int, columns: int) -> None:
        kept = self.columns
        self.lines, self.columns = lines, -(-columns // _COLUMNS) * _COLUMNS
        for layer in self.layers:
            layer.resize(self.lines, self.columns, kept=kept)

    def _move(self, source: int, target: int) -> None:
        self.own[target] = self.own[source]
        for block in self._blocks():
            block[target, :, : self.own[source]] = block[source, :, : self.own[source]]

    def _blocks(self) -> list[torch.Tensor]:
        return [block for layer in self.layers for block in (layer.keys, layer.values) if block is not None]


class _LineLayer(BlockLayer):
    """One layer's block; what a pass adds is written where the lines say."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(lines)
        self._lines = lines

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the states of a pass, 1 x H x N x E or N x H x 1 x E, at their lines and columns."""
        compiled = native.for_type(key_states)
        for block, states in zip(self.blocks_for(key_states, value_states), (key_states, value_states)):
            states_NHE = states.transpose(1, 2).flatten(0, 1)
            if compiled is None:
                block[self._lines.line_N, :, self._lines.column_N] = states_NHE
            else:
                compiled.write(block, states_NHE, self._lines.line_N, self._lines.column_N)
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return what a mask would span; there is none."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Return 0: rows differ, and positions are given, so that nobody counts on it."""
        return 0

    def select(self, index_n: torch.Tensor) -> None:
        """Keep these lines."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys[index_n], self.values[index_n]


def beginning_of(stretches: Sequence[States]) -> Beginning:
    """Join stretches that follow one another."""
    states = [torch.cat(pieces, dim=1) for pieces in zip(*stretches, strict=True)]
    return Beginning(states[0].shape[1], tuple(zip(states[::2], states[1::2], strict=True)))


def _length(beginning: Beginning | None) -> int:
    return 0 if beginning is None else beginning.num_tokens
