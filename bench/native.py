"""Decoding on a CPU with the compiled functions and without: seconds of the prompts, of a step, and how far attention is from the exact result.

    python bench/native.py [--rows 1 16 64] [--rounds 5] [--json bench/results/native.json] [--page docs/decisions/0010-compiled-functions.md]

Both take turns in one process, on the 135M Llama shape with random weights in bfloat16, on the prompts of bench/generate.py: 150 tokens that all share and 20 to
60 of their own; the medians of the rounds count. Raises where there are no compiled functions.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch
from pages import table, with_block
from timing import machine
from transformers import PreTrainedModel

from generate import make_prompts, random_model
from luthier.generate.engine import Engine, evaluating
from luthier.generate.sample import greedy, log_probability
from luthier.kernels import native, reference
from luthier.kernels.line_attention import line_attention
from luthier.kernels.native import Rows

STEPS, SHARED = 30, 150
KINDS = ("compiled", "torch")
HEAD = ["rows", "prompts, s: torch", "compiled", "a step, ms: torch", "compiled", "step, ratio"]


def seconds(model: PreTrainedModel, rows: int) -> dict[str, float]:
    """Return the seconds of the prompts and of one step."""
    prompts = make_prompts(rows, model.config.vocab_size, SHARED)
    engine = Engine(model, (), 0, unrender=str, max_new_tokens=STEPS, batch_size=rows)
    with torch.inference_mode(), evaluating(model):
        start = time.perf_counter()
        running = engine.prefilled(prompts)
        prompt = time.perf_counter() - start
        tokens = greedy(running.logits_BV)
        start = time.perf_counter()
        for _ in range(STEPS):
            running.advance(tokens)
            tokens = greedy(running.logits_BV)
            log_probability(running.logits_BV, tokens)
        return {"prompts": prompt, "step": (time.perf_counter() - start) / STEPS}


def measured(model: PreTrainedModel, rows: int, rounds: int) -> dict[str, object]:
    """Return the medians of both kinds; the first round warms up."""
    library, stock = native.library(), native._found
    assert library is not None, native.why_not()
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    try:
        for _ in range(rounds + 1):
            for kind in KINDS:
                native._found = stock if kind == "compiled" else lambda: (None, "the bench leaves them out")
                found[kind].append(seconds(model, rows))
    finally:
        native._found = stock
    medians = {
        kind: {name: median(one[name] for one in taken[1:]) for name in taken[0]} for kind, taken in found.items()
    }
    return {"rows": rows, **medians}


def apart() -> dict[str, float]:
    """Return how far both kinds of attention are from that in float64, of its norm: 64 rows, 40 to 90 keys of their own behind 150."""
    torch.manual_seed(0)
    rows, heads, queries, columns, channels = 64, 3, 9, 96, 64
    query = torch.randn(rows, queries, channels).bfloat16()
    keys, values = (torch.randn(rows, heads, columns, channels).bfloat16() for _ in range(2))
    first = (torch.randn(heads, SHARED, channels).bfloat16(), torch.randn(heads, SHARED, channels).bfloat16())
    start_n, place_n = torch.randint(40, 90, (rows,)), torch.arange(rows)
    told = Rows(place_n, place_n, torch.ones_like(place_n), start_n, torch.zeros_like(place_n))
    exact = reference.attention_behind(query, (keys, values), told, [first], channels**-0.5)
    hidden = (
        torch.zeros(rows, 1, 1, columns)
        .masked_fill_(torch.arange(columns) > start_n[:, None, None, None], float("-inf"))
        .bfloat16()
    )
    library = native.library()
    assert library is not None, native.why_not()
    found = {
        "compiled": library.attend(query, (keys, values), told, [first], channels**-0.5),
        "torch": line_attention(query, keys, values, [(*first, None)], hidden, channels**-0.5)[:, 0],
    }
    return {kind: float((one.double() - exact).norm() / exact.norm()) for kind, one in found.items()}


def with_table(page: str, found: dict) -> str:
    """Return the page with the table of a result."""
    rows = [HEAD]
    for entry in found["entries"]:
        slow, fast = entry["torch"], entry["compiled"]
        rows.append([
            str(entry["rows"]), f"{slow['prompts']:.2f}", f"{fast['prompts']:.2f}", f"{1e3 * slow['step']:.1f}", f"{1e3 * fast['step']:.1f}",
            f"{slow['step'] / fast['step']:.2f}",
        ])  # fmt: skip
    far = found["apart"]
    words = f"Attention in bfloat16 is {100 * far['compiled']:.2f} % of its norm from the exact result, with torch {100 * far['torch']:.2f} %."
    return with_block(page, "native", f"{table(rows)}\n\n{words}")


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    model = random_model("135m", torch.bfloat16)
    found = {
        "machine": machine(),
        "apart": apart(),
        "entries": [measured(model, rows, given.rounds) for rows in given.rows],
    }
    print(json.dumps(found, indent=2))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if given.page:
        given.page.write_text(with_table(given.page.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
