"""One candidate of bench/sft.py: TRL's SFTTrainer on the same rows. It needs trl and nothing of Luthier.

python bench/sft_trl.py TASK.json padded|packed
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Stopwatch(TrainerCallback):
    """Notes wall and processor time at the end of every step."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Note the time."""
        self.times.append((time.perf_counter(), time.process_time()))


def main(task: dict, layout: str) -> None:
    """Train the steps of the task and print rows and tokens a second, processor seconds a row and peak memory."""
    torch.manual_seed(0)
    full = task["method"] == "full"
    dtype = torch.float32 if full else torch.bfloat16  # full tuning keeps float32 weights and computes in bfloat16
    if task["config"]:
        model = LlamaForCausalLM(LlamaConfig(**task["config"])).to(dtype)
    else:
        model = AutoModelForCausalLM.from_pretrained(task["folder"], dtype=dtype)
    rows, steps, rows_a_step = task["rows"], task["steps"] + 1, task["rows_a_step"]
    num_tokens = sum(len(row["input_ids"]) for row in rows)
    packing = layout == "packed"
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder, max_steps=-1 if packing else steps, num_train_epochs=1, learning_rate=1e-4, use_cpu=True, bf16=True,
            gradient_checkpointing=False, per_device_train_batch_size=1 if packing else rows_a_step, packing=packing,
            max_length=num_tokens // steps + 1 if packing else None, completion_only_loss=True, report_to="none", save_strategy="no",
            logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        watch = Stopwatch()
        trainer = SFTTrainer(
            model=model, args=settings, train_dataset=Dataset.from_list(rows), callbacks=[watch],
            processing_class=AutoTokenizer.from_pretrained(task["folder"]),
            peft_config=None if full else LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        )  # fmt: skip
        trainer.train()
    (wall, processor), (last_wall, last_processor) = watch.times[0], watch.times[-1]
    rows_done = len(rows) * (len(watch.times) - 1) / len(watch.times)
    print(json.dumps({
        "rows_per_second": rows_done / (last_wall - wall), "tokens_per_second": num_tokens / len(rows) * rows_done / (last_wall - wall),
        "cpu_seconds_per_row": (last_processor - processor) / rows_done,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }))  # fmt: skip


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
