"""One candidate of bench/sft.py: TRL's SFTTrainer on the same rows. It needs trl and nothing of Luthier.

python bench/sft_trl.py TASK.json padded|packed [liger]
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from sft_task import Stopwatch, flops_per_token, make_model, rows_at_once, wait_for_the_turn
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer


def main(task: dict, layout: str, liger: bool) -> None:
    """Train the steps of the task and print rows and tokens a second, processor seconds a row and peak memory."""
    full, device = task["method"] == "full", task["device"]
    # Full tuning keeps float32 weights and computes in bfloat16.
    model = make_model(task, torch.float32 if full else torch.bfloat16)
    rows, steps, rows_a_step, together = task["rows"], task["steps"] + 1, task["rows_a_step"], rows_at_once(task)
    num_tokens = sum(len(row["input_ids"]) for row in rows)
    packing, parts = layout == "packed", rows_a_step // together
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder, max_steps=-1 if packing else steps, num_train_epochs=1, learning_rate=1e-4, use_cpu=device == "cpu", bf16=True,
            gradient_checkpointing=task["checkpointing"], gradient_checkpointing_kwargs={"use_reentrant": False}, use_liger_kernel=liger,
            per_device_train_batch_size=1 if packing else together, gradient_accumulation_steps=parts, packing=packing,
            max_length=num_tokens // (steps * parts) + 1 if packing else None, completion_only_loss=True, report_to="none",
            save_strategy="no", logging_steps=1, train_sampling_strategy="sequential", disable_tqdm=True,
        )  # fmt: skip
        watch = Stopwatch(device)
        trainer = SFTTrainer(
            model=model, args=settings, train_dataset=Dataset.from_list(rows), callbacks=[watch],
            processing_class=AutoTokenizer.from_pretrained(task["folder"]),
            peft_config=None if full else LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        )  # fmt: skip
        trainer.train()
    watch.report(task, flops_per_token=flops_per_token(trainer.model), attention=model.config._attn_implementation)


if __name__ == "__main__":
    wait_for_the_turn()
    main(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2], "liger" in sys.argv[3:])
