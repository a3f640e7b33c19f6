"""Answers a second: Luthier's engine against transformers' `generate` in padded batches, at its best batch size.

    python bench/generate.py [--shape 135m|tiny] [--model starter] [--dtype float32] [--rows 32] [--shared 150] [--json FILE]

Prompts share their first 150 tokens (`--shared`) and have 20 to 60 of their own; every answer has 48 tokens. The candidates take
turns in one process and the median of their rounds counts. Random weights of the 135M shape, or a model's own. In
float32 the greedy answers are compared token by token: where they part, the difference between the reference's two
best logits at that place is printed, and a difference of 1e-4 or more ends the program with an error. With
`--labels` the labels of SNIPS are scored and written, on the starter, and the times compared.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from timing import in_turns, machine
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from luthier.config.settings import ModelSettings
from luthier.core.types import Prompt
from luthier.data.render import Renderer
from luthier.generate.constrain import Choice, Constrainer
from luthier.generate.engine import Engine
from luthier.generate.labels import Label, LabelScorer
from luthier.models.load import find_model, load_model, load_tokenizer

NEW = 48
TIE = 1e-4
SHAPES = {
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49152},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 512},
}  # fmt: skip
LABELS = (
    "AddToPlaylist", "BookRestaurant", "GetWeather", "PlayMusic", "RateBook", "SearchCreativeWork", "SearchScreeningEvent",
)  # fmt: skip


def random_model(shape: str, dtype: torch.dtype) -> PreTrainedModel:
    """Make a Llama of the shape from random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[shape], max_position_embeddings=2048, tie_word_embeddings=True, attn_implementation="sdpa",
        eos_token_id=None, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(dtype).eval()


def make_prompts(rows: int, vocabulary: int, shared: int = 150) -> list[Prompt]:
    """Prompts that share their first tokens."""
    rng = random.Random(0)
    head = [rng.randrange(24, vocabulary) for _ in range(shared)]
    tails = [[rng.randrange(24, vocabulary) for _ in range(rng.randint(20, 60))] for _ in range(rows)]
    return [Prompt(str(row), (*head, *tail)) for row, tail in enumerate(tails)]


def by_transformers(model: PreTrainedModel, prompts: list[Prompt], batch: int) -> list[tuple[int, ...]]:
    """Decode in batches of neighbours in length, padded on the left, as its users do."""
    ordered = sorted(prompts, key=lambda prompt: len(prompt.tokens))
    out: dict[str, tuple[int, ...]] = {}
    for start in range(0, len(ordered), batch):
        part = ordered[start : start + batch]
        longest = max(len(prompt.tokens) for prompt in part)
        tokens = torch.tensor([[0] * (longest - len(prompt.tokens)) + list(prompt.tokens) for prompt in part])
        mask = torch.tensor([[0] * (longest - len(p.tokens)) + [1] * len(p.tokens) for p in part])
        with torch.inference_mode():
            answers = model.generate(
                input_ids=tokens, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False,
                eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        out |= {prompt.row: tuple(line[longest:].tolist()) for prompt, line in zip(part, answers)}
    return [out[prompt.row] for prompt in prompts]


@torch.inference_mode()
def differences(
    model: PreTrainedModel, prompts: list[Prompt], ours: list[tuple[int, ...]], theirs: list[tuple[int, ...]]
) -> list[dict[str, float | int | str]]:
    """List where answers part, with the gap between the two best logits of the row computed alone."""
    found: list[dict[str, float | int | str]] = []
    for prompt, a, b in zip(prompts, ours, theirs):
        if a == b:
            continue
        at = next(place for place, (x, y) in enumerate(zip(a, b)) if x != y)
        logits = model(torch.tensor([[*prompt.tokens, *b[:at]]])).logits[0, -1].float()
        first, second = logits.topk(2).values.tolist()
        found.append({"row": prompt.row, "token": at, "gap": first - second})
    return found


def against_transformers(
    model: PreTrainedModel, rows: int, shared: int, batches: list[int], timed: Callable[..., dict[str, float]]
) -> dict[str, object]:
    """Return answers a second of both, their ratio, and where their answers part."""
    prompts = make_prompts(rows, model.config.vocab_size, shared)
    engine = Engine(model, (), 0, unrender=str, max_new_tokens=NEW, batch_size=rows)
    seconds = timed(
        luthier=partial(engine, prompts),
        **{f"transformers_{batch}": partial(by_transformers, model, prompts, batch) for batch in batches},
    )  # fmt: skip
    rates = {name: rows / value for name, value in seconds.items()}
    best = max(rate for name, rate in rates.items() if name != "luthier")
    ours = [answer.tokens for answer in engine(prompts)]
    parted = differences(model, prompts, ours, by_transformers(model, prompts, min(batches)))
    return {
        "answers_per_second": {name: round(rate, 3) for name, rate in rates.items()},
        "ratio": round(rates["luthier"] / best, 2), "rows": rows, "shared": shared, "identical": rows - len(parted), "parted": parted,
    }  # fmt: skip


def label_rates(rows: int, timed: Callable[..., dict[str, float]]) -> dict[str, object]:
    """Return answers a second of the starter over seven labels: scored, written, and written under the constraint."""
    folder = find_model(ModelSettings(name="starter"))
    tokenizer, model = load_tokenizer(folder), load_model(folder, torch.float32)
    renderer = Renderer(tokenizer, max_length=2048)
    prompts = make_prompts(rows, model.config.vocab_size)
    end = renderer.stop_tokens[-1]
    labels = [Label(text, (*tokenizer.encode(text, add_special_tokens=False), end)) for text in LABELS]
    longest = max(len(label.tokens) for label in labels)
    grammar = Constrainer(tokenizer, renderer.stop_tokens, model.config.vocab_size).grammar(Choice(LABELS))
    plain, held = (
        Engine(
            model,
            stops,
            0,
            unrender=renderer.unrender,
            max_new_tokens=longest,
            batch_size=rows,
            matcher=one,
        )
        for stops, one in (((), None), (renderer.stop_tokens, lambda _: grammar.start()))
    )
    scorer = LabelScorer(plain, labels)
    seconds = timed(
        scored=partial(scorer, prompts), written=partial(plain, prompts), constrained=partial(held, prompts)
    )
    return {
        "labels": len(labels),
        "longest": longest,
        "answers_per_second": {k: round(rows / v, 2) for k, v in seconds.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="135m")
    parser.add_argument("--model", help="a model's own weights instead of random ones")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--shared", type=int, default=150, help="tokens that all prompts begin with")
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-ups", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="count CPU seconds, for a machine that is busy")
    parser.add_argument("--labels", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    dtype = getattr(torch, given.dtype)
    clock = time.process_time if given.cpu else time.perf_counter
    timed = partial(in_turns, given.rounds, warm_ups=given.warm_ups, clock=clock)
    if given.labels:
        result = label_rates(given.rows, timed)
    else:
        found = find_model(ModelSettings(name=given.model)) if given.model else None
        model = load_model(found, dtype) if found else random_model(given.shape, dtype)
        result = against_transformers(model, given.rows, given.shared, given.batches, timed)
    result |= {
        "model": given.model or given.shape,
        "dtype": given.dtype,
        "seconds": "cpu" if given.cpu else "wall",
        "machine": machine(),
    }
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    parted = result.get("parted", [])
    if given.dtype == "float32" and any(one["gap"] >= TIE for one in parted):
        sys.exit("answers part where the reference is not undecided")


if __name__ == "__main__":
    main()
