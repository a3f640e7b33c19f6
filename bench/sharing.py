"""How many tokens sharing saves on every data set of ../shared/data/tasks, as its rows come, without an added prompt.

    python bench/sharing.py > build/bench/sharing.json

renders the first 4,000 rows of each file with the starter's template, deals them into steps of 32 rows of mean
length as training does, and counts what the model would compute of each token, in the packed layout and as a
tree. Of a preference row both answers are sequences.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from timing import machine
from transformers import AutoTokenizer

import luthier.starter
from luthier.config.settings import DataSettings
from luthier.core.types import Conversation, Preference, Rendered, Row, Text
from luthier.data.loader import Layout, SequenceStore, micro_batches, steps_of_epoch
from luthier.data.read import read
from luthier.data.render import Renderer, render_all

TASKS = Path(__file__).parents[2] / "shared" / "data" / "tasks"
STARTER = Path(luthier.starter.__file__).parent / "model"
ROWS, ROWS_A_STEP, MICRO_TOKENS = 4000, 32, 8192
FILES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "banking77/train.jsonl": ("text", ("label",)), "clinc150/train.jsonl": ("text", ("label",)), "e2e/dev.jsonl": ("mr", ("ref",)),
    "gsm8k/train.jsonl": ("question", ("answer",)), "rnnlg/train.jsonl": ("mr", ("text",)), "snips/train.jsonl": ("text", ("intent", "slots")),
    "style/queries.jsonl": ("query", ("response",)), "preferences/dpo_en_demo.json": (None, ()), "preferences/kto_en_demo.json": (None, ()),
    "formats/alpaca_en_demo.json": (None, ()), "formats/glaive_toolcall_en_demo.json": (None, ()), "formats/identity.json": (None, ()),
    "formats/c4_demo.jsonl": (None, ()), "formats/wiki_demo.txt": (None, ()),
}  # fmt: skip


def conversations(rows: Iterator[object]) -> Iterator[Row]:
    """Yield rows that can be rendered: both answers of a preference after its prompt, everything else as it is."""
    for row in rows:
        if not isinstance(row, Row):
            continue
        if isinstance(row.content, Preference):
            pair = row.content
            for answer in (pair.chosen, pair.rejected):
                if answer:
                    whole = Conversation((*pair.prompt, *answer), pair.tools)
                    yield Row(row.id, row.file, row.line, row.record, whole, row.group)
        else:
            yield row


def sequences_of(file: str, renderer: Renderer) -> list[Rendered]:
    """Read and render the first rows of a file."""
    source, target = FILES[file]
    settings = DataSettings(path=str(TASKS / file), input=source, output=target or None)
    rows = list(islice(conversations(read(str(TASKS / file), settings, lambda text: None)), ROWS))
    out: list[Rendered] = []
    for objective, kind in (("sft", Conversation), ("text", Text)):
        chosen = [row for row in rows if isinstance(row.content, kind)]
        for _, result in render_all(chosen, renderer, objective):
            if isinstance(result, list):
                out += result
    return out


def processed(store: SequenceStore, layout: Layout) -> float:
    """Return how many positions the model computes for each token of the rows, in one epoch."""
    batch_tokens = round(store.num_tokens / len(store) * ROWS_A_STEP)
    steps = steps_of_epoch(store.lengths, batch_tokens, 0, 0, store.kin_in(layout))
    positions = sum(batch.num_positions for step in steps for batch in micro_batches(store, step, MICRO_TOKENS, layout))
    return round(positions / store.num_tokens, 3)


def measure(file: str, renderer: Renderer) -> dict[str, str | float]:
    """Count one file in both layouts."""
    store = SequenceStore(sequences_of(file, renderer))
    return {
        "file": file, "sequences": len(store), "tokens_a_sequence": round(store.num_tokens / len(store), 1),
        "packed": processed(store, "packed"), "tree": processed(store, "tree"),
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="Files instead of all.")
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    renderer = Renderer(tokenizer, max_length=2048, truncate="end")
    results = []
    for file in parser.parse_args().only or FILES:
        results.append(measure(file, renderer))
        print(results[-1], file=sys.stderr)
    print(json.dumps({"bench": "sharing", **machine(), "rows_a_step": ROWS_A_STEP, "results": results}, indent=1))
