"""What the starter can do: held-out bits per byte, its skills, labels from a few examples.

    python -m luthier.starter.recipe ../shared/data/corpus build/starter/measured --tokens 1000000 --seed 1 --tokenizer src/luthier/starter/model
    python bench/starter.py build/starter/measured ../shared/data/tasks/banking77

Writes one JSON document to standard output. The n-gram yardstick is left out here: it needs all the
training text (`ngram_code_length`).
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from luthier.config.settings import ModelSettings
from luthier.core.types import JsonObject, Prompt
from luthier.generate.engine import Engine
from luthier.models.load import find_model, load_model, load_tokenizer, stop_tokens
from luthier.starter import evaluate


def main() -> None:
    data, labels = Path(sys.argv[1]), Path(sys.argv[2])
    folder = find_model(ModelSettings(name=sys.argv[3] if len(sys.argv) > 3 else "starter"))
    tokenizer, model = load_tokenizer(folder), load_model(folder, torch.bfloat16)
    stops = stop_tokens(folder)
    engine = Engine(
        model,
        stops,
        stops[0],
        unrender=lambda tokens: tokenizer.decode(list(tokens), skip_special_tokens=True),  # type: ignore[arg-type,return-value]
        max_new_tokens=160,
    )

    def answer(conversations: Sequence[list[JsonObject]]) -> list[str]:
        prompts = []
        for index, messages in enumerate(conversations):
            tokens = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)  # type: ignore[arg-type]
            prompts.append(Prompt(str(index), tuple(tokens)))  # type: ignore[arg-type]
        return [completion.text for completion in engine(prompts)]

    length = evaluate.model_code_length(
        model, Tokenizer.from_file(str(folder.path / "tokenizer.json")), evaluate.rows_of(data / "heldout.jsonl")
    )
    skills = evaluate.skill_accuracies(data / "heldout_skills", answer)
    train, test = (evaluate.labelled(labels / f"{part}.jsonl") for part in ("train", "test"))
    shots = evaluate.few_shot_labels(train, test, num_labels=5, shots=3, count=300, seed=0)
    few = evaluate.accuracy(shots, answer)
    print(
        json.dumps(
            {
                "bits_per_byte": round(length.bits_per_byte, 4),
                "nats_per_token": round(length.bits / length.num_tokens * 0.6931471805599453, 4),
                "skills": {name: f"{found.right}/{found.asked}" for name, found in skills.items()},
                "few_shot_labels": f"{few.right}/{few.asked}",
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
