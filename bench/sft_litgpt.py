"""One candidate of bench/sft.py: litgpt on the same rows, through its own `setup` and a data module of ours. It needs litgpt and transformers.

python bench/sft_litgpt.py TASK.json

The model is made as for the others and its weights are copied into litgpt's names. litgpt has an output layer of its own
even where the shape shares it with the embeddings: tuning all weights there trains it too.
"""

import csv
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from litgpt import Config
from litgpt.args import EvalArgs, TrainArgs
from litgpt.data import DataModule, get_sft_collate_fn
from litgpt.finetune import full, lora
from litgpt.prompts import Default
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
from litgpt.utils import save_config
from sft_task import Stopwatch, labels, make_model, rows_at_once, wait_for_the_turn
from torch.utils.data import DataLoader

watch = Stopwatch("cpu")


class WatchedAdamW(torch.optim.AdamW):
    """AdamW as litgpt uses it; every step is noted when it is done."""

    def step(self, closure=None):
        """Step, and note it."""
        loss = super().step(closure)
        watch.note()
        return loss


class Rows(DataModule):
    """The rows of the task in their order, padded to the longest of a batch; litgpt wants some to validate on, one here."""

    def __init__(self, task: dict) -> None:
        super().__init__()
        self.prompt_style = Default()
        self._rows = [
            {"input_ids": torch.tensor(row["input_ids"]), "labels": torch.tensor(labels(row)), "token_counts": {"raw": len(row["input_ids"]), "raw_plus_prompt_template": len(row["input_ids"])}}
            for row in task["rows"]
        ]  # fmt: skip
        self._batch_size = 1

    def connect(self, tokenizer=None, batch_size: int = 1, max_seq_length: int | None = None, **kwargs) -> None:
        """Take the number of rows that go through the model together."""
        self._batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        """Return all rows."""
        return DataLoader(self._rows, batch_size=self._batch_size, collate_fn=get_sft_collate_fn())  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader:
        """Return one row."""
        return DataLoader(self._rows[:1], batch_size=1, collate_fn=get_sft_collate_fn())  # type: ignore[arg-type]


def write_model(task: dict, folder: Path, dtype: torch.dtype) -> None:
    """Write the model of the task as litgpt's checkpoint."""
    model = make_model(task, dtype)
    shape = model.config
    config = Config(
        name=shape.model_type, block_size=shape.max_position_embeddings, vocab_size=shape.vocab_size, padded_vocab_size=shape.vocab_size,
        n_layer=shape.num_hidden_layers, n_head=shape.num_attention_heads, n_query_groups=shape.num_key_value_heads, n_embd=shape.hidden_size,
        head_size=shape.head_dim, intermediate_size=shape.intermediate_size, rotary_percentage=1.0, parallel_residual=False, bias=False,
        norm_class_name="RMSNorm", norm_eps=shape.rms_norm_eps, mlp_class_name="LLaMAMLP", rope_base=int(shape.rope_parameters["rope_theta"]),
    )  # fmt: skip
    weights: dict[str, torch.Tensor] = {}
    copy_weights_hf_llama(config, {}, weights, dict(model.state_dict()))
    torch.save(weights, folder / "lit_model.pth")
    save_config(config, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(task["folder"]) / name, folder)


def main(task: dict) -> None:
    """Train the steps of the task and report."""
    adapted = task["method"] == "lora"
    assert task["device"] == "cpu", "only a CPU is known here"
    with tempfile.TemporaryDirectory() as name:
        model, out = Path(name) / "model", Path(name) / "out"
        model.mkdir()
        write_model(task, model, torch.bfloat16 if adapted else torch.float32)
        train = TrainArgs(
            save_interval=None, global_batch_size=task["rows_a_step"], micro_batch_size=rows_at_once(task), lr_warmup_steps=1, epochs=10,
            max_steps=task["steps"] + 1,
        )  # fmt: skip
        alike = {
            "checkpoint_dir": model, "out_dir": out, "data": Rows(task), "train": train,
            "eval": EvalArgs(interval=10**6, max_new_tokens=1, max_iters=1, initial_validation=False, final_validation=False),
            "optimizer": {"class_path": "__main__.WatchedAdamW", "init_args": {"lr": 1e-4}},
        }  # fmt: skip
        if adapted:
            everywhere = {f"lora_{place}": True for place in ("query", "key", "value", "projection", "mlp")}
            adapters = {"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.0, **everywhere}
            # When it has trained it merges the adapters by what it reads on the command line.
            sys.argv[1:] = [str(model), *(f"--{key}={str(value).lower()}" for key, value in adapters.items())]
            lora.setup(**alike, precision="bf16-true", **adapters)
        else:
            full.setup(**alike, precision="bf16-mixed")
        with next(out.rglob("metrics.csv")).open(encoding="utf-8") as logged:
            watch.losses = [float(line["loss"]) for line in csv.DictReader(logged) if line.get("loss")]
    watch.report(task)


if __name__ == "__main__":
    wait_for_the_turn()
    main(json.loads(Path(sys.argv[1]).read_text()))
