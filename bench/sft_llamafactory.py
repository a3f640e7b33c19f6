"""One candidate of bench/sft.py: LLaMA-Factory on the same rows, through its own `run_exp` and its setting for rows that are tokens already.

python bench/sft_llamafactory.py TASK.json recomputed|kept

`recomputed` is its default: the layers' activations are computed again in the backward pass; `kept` turns that off. It needs
llamafactory and nothing of Luthier.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

# It names the releases that it was tested with, and refuses others of its own dependencies that pip allows.
os.environ["DISABLE_VERSION_CHECK"] = "1"

import torch
from datasets import Dataset, DatasetDict
from llamafactory.train.tuner import run_exp
from sft_task import Stopwatch, labels, make_model, rows_at_once, wait_for_the_turn
from transformers import AutoTokenizer


def write_rows(task: dict, folder: Path) -> None:
    """Write the rows as its `tokenized_path` wants them."""
    rows = [
        {"input_ids": row["input_ids"], "attention_mask": [1] * len(row["input_ids"]), "labels": labels(row)}
        for row in task["rows"]
    ]
    DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(str(folder))


def main(task: dict, layers: str) -> None:
    """Train the steps of the task and report."""
    together = rows_at_once(task)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(task, folder / "rows")
        make_model(task | {"device": "cpu"}, torch.bfloat16).save_pretrained(folder / "model")
        AutoTokenizer.from_pretrained(task["folder"]).save_pretrained(folder / "model")
        watch = Stopwatch(task["device"])
        adapter = {"lora_rank": 16, "lora_alpha": 32, "lora_target": "all", "lora_dropout": 0.0}
        run_exp({
            "model_name_or_path": str(folder / "model"), "stage": "sft", "do_train": True, "finetuning_type": task["method"],
            **(adapter if task["method"] == "lora" else {}), "dataset": "rows", "tokenized_path": str(folder / "rows"), "template": "empty",
            "cutoff_len": 2048, "per_device_train_batch_size": together, "gradient_accumulation_steps": task["rows_a_step"] // together,
            "max_steps": task["steps"] + 1, "learning_rate": 1e-4, "bf16": True, "use_cpu": task["device"] == "cpu", "disable_shuffling": True,
            "disable_gradient_checkpointing": layers == "kept", "output_dir": str(folder / "out"), "overwrite_output_dir": True,
            "logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        }, callbacks=[watch])  # fmt: skip
    watch.report(task)


if __name__ == "__main__":
    wait_for_the_turn()
    main(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
