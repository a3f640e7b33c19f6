"""Supervised tuning against its peers: rows a second, memory and processor time, with shared prefixes and without.

    python bench/sft.py --peers /path/to/venv-with-trl/bin/python > build/bench/sft.json

SNIPS rows behind a system prompt of 10, 38 or 150 tokens, 16 rows a step, on a Llama shape of 135M random
weights and on the starter, as LoRA (rank 16) and with every weight. Every candidate runs in a process of its own and
they take turns, `--rounds` times; what counts is the median. Rows, model, batch and adapter are the same;
TRL's SFTTrainer is given bfloat16 and no activation checkpointing, padded and packed. Without --peers only Luthier
runs: `tree` shares what rows begin with, `packed` does not. --quick is a smoke test with a tiny shape.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from timing import machine
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import luthier.starter
from luthier.core.threads import child_environment
from luthier.kernels.rates import matmul_rate

HERE = Path(__file__).parent
SNIPS = HERE.parents[1] / "shared" / "data" / "tasks" / "snips" / "train.jsonl"
STARTER = Path(luthier.starter.__file__).parent / "model"
PROMPT = (
    "You are the language understanding of a voice assistant. You turn what people say into one JSON object with the keys "
    "intent and slots. The intent is one of AddToPlaylist, BookRestaurant, GetWeather, PlayMusic, RateBook, "
    "SearchCreativeWork and SearchScreeningEvent. The slots name what was asked for in the words that were said. "
) * 3
ROWS = 16
_135M = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "max_position_embeddings": 2048, "tie_word_embeddings": True,
}  # fmt: skip
_TINY = _135M | {"vocab_size": 8192, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "num_hidden_layers": 2}  # fmt: skip
Figures = dict[str, float]


def snips_rows(tokenizer: PreTrainedTokenizerBase, shared: int, number: int) -> list[dict[str, list[int]]]:
    """Return rows as tokens with a mask of what is trained, each behind the first `shared` tokens of the prompt."""
    prompt = tokenizer.encode(PROMPT, add_special_tokens=False)[:shared]
    assert len(prompt) == shared
    out = []
    with SNIPS.open(encoding="utf-8") as lines:
        for line, _ in zip(lines, range(number), strict=False):
            row = json.loads(line)
            answer = json.dumps({"intent": row["intent"], "slots": row["slots"]}, ensure_ascii=False)
            asked = tokenizer.encode(f" Said: {row['text']}\nJSON: ", add_special_tokens=False)
            trained = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
            mask = [0] * (shared + len(asked)) + [1] * len(trained)
            out.append({"input_ids": [*prompt, *asked, *trained], "completion_mask": mask})
    return out


def measure(python: str, program: str, task: Path, layout: str) -> Figures:
    """Run one candidate in a process of its own and return what it says about itself."""
    command = [python, str(HERE / program), str(task), layout]
    environment = child_environment(torch.get_num_threads())
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compared(task: Path, peers: str | None, rounds: int) -> dict[str, Figures]:
    """Let all candidates take turns; return the medians of each."""
    candidates = {"luthier tree": (sys.executable, "sft_luthier.py", "tree"), "luthier packed": (sys.executable, "sft_luthier.py", "packed")}  # fmt: skip
    if peers:
        candidates |= {"trl padded": (peers, "sft_trl.py", "padded"), "trl packed": (peers, "sft_trl.py", "packed")}
    said: dict[str, list[Figures]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, (python, program, layout) in candidates.items():
            said[name].append(measure(python, program, task, layout))
            print(f"    {name}: {said[name][-1]}", file=sys.stderr)
    return {
        name: {key: round(statistics.median(one[key] for one in all_said), 3) for key in all_said[0]}
        for name, all_said in said.items()
    }


def main() -> None:
    """Measure every case that was asked for and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="The Python of an environment that has trl.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="Timed steps of each process, after one that warms up.")
    parser.add_argument("--models", nargs="*", default=["llama-135m", "starter"])
    parser.add_argument("--methods", nargs="*", default=["lora", "full"])
    parser.add_argument("--shared", type=int, nargs="*", default=[10, 38, 150])
    parser.add_argument("--quick", action="store_true", help="One round of one step with a tiny shape.")
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    rounds, steps = (1, 1) if given.quick else (given.rounds, given.steps)
    cases = [(model, method, shared) for model in given.models for method in given.methods for shared in given.shared]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for model, method, shared in cases:
            rows = snips_rows(tokenizer, shared, ROWS * (steps + 1))
            config = None if model == "starter" else _TINY if given.quick else _135M
            task = Path(folder) / "task.json"
            content = {"rows": rows, "rows_a_step": ROWS, "steps": steps, "method": method, "config": config, "folder": str(STARTER)}  # fmt: skip
            task.write_text(json.dumps(content))
            tokens = sum(len(row["input_ids"]) for row in rows) / len(rows)
            case = {"model": model, "method": method, "shared_tokens": shared, "tokens_a_row": round(tokens, 1)}
            print(case, file=sys.stderr)
            results.append(case | {"candidates": compared(task, given.peers, rounds)})
    rates = {str(dtype): round(matmul_rate(dtype) / 1e9) for dtype in (torch.bfloat16, torch.float32)}
    print(json.dumps({"bench": "sft", **machine(), "gflops": rates, "rounds": rounds, "steps": steps, "results": results}, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
