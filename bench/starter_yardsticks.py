"""What the starter's held-out bits per byte stand beside: an n-gram model of the same training rows, and its shape untrained.

    python -m luthier.starter.recipe ../shared/data/corpus build/starter/mixture --tokens 64000000 --share 0.5 --seed 4 --tokenizer src/luthier/starter/model
    python -m luthier.starter.recipe ../shared/data/corpus build/starter/measured --tokens 1000000 --seed 1 --tokenizer src/luthier/starter/model
    python bench/starter_yardsticks.py build/starter/mixture build/starter/measured

The n-gram model is interpolated modified Kneser-Ney of order 5 (`luthier.starter.kneser_ney`); over 64 million tokens it needs some
minutes and about 10 GB. Writes one JSON document to standard output.
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, LlamaForCausalLM

import luthier.starter
from luthier.starter import evaluate

STARTER = Path(luthier.starter.__file__).parent / "model"


def main() -> None:
    """Measure both and print JSON."""
    training, measured = Path(sys.argv[1]), Path(sys.argv[2])
    tokenizer = Tokenizer.from_file(str(STARTER / "tokenizer.json"))
    held_out = evaluate.rows_of(measured / "heldout.jsonl")
    torch.manual_seed(0)
    untrained = LlamaForCausalLM(AutoConfig.from_pretrained(STARTER)).to(torch.bfloat16).eval()
    bits = {"untrained": evaluate.model_code_length(untrained, tokenizer, held_out).bits_per_byte}
    rows = evaluate.rows_of(training / "train.jsonl")
    bits["kneser_ney_5"] = evaluate.ngram_code_length(tokenizer, rows, held_out).bits_per_byte
    print(json.dumps({"training_rows": len(rows), "bits_per_byte": {key: round(value, 4) for key, value in bits.items()}}, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
