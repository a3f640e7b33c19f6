"""What the starter can do: held-out bits per byte, its skills, labels from a few examples, samples.

    python -m luthier.starter.recipe ../shared/data/corpus build/starter/measured --tokens 1000000 --seed 1 --tokenizer src/luthier/starter/model
    python bench/starter.py build/starter/measured ../shared/data/tasks/banking77

Writes one JSON document to standard output; `bench/starter_card.py` makes the model's card of it. A
third argument names another model folder. The n-gram yardstick is left out here: it needs all the
training text (`ngram_code_length`).
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from luthier.config.settings import ModelSettings
from luthier.core.types import JsonObject, Prompt
from luthier.generate.engine import Engine
from luthier.models.load import STARTER, find_model, load_model, load_tokenizer, stop_tokens
from luthier.starter import evaluate

PRETRAINING_TOKENS = "107 million"
_SHOWN = 300
_PROSE = (2, 40, 41, 200)


class Asked:
    """A model that is asked: conversations by its template, or the beginning of a text."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stops: Sequence[int]) -> None:
        self._tokenizer = tokenizer

        def text(tokens: Sequence[int]) -> str:
            decoded = tokenizer.decode(list(tokens), skip_special_tokens=True)
            return decoded if isinstance(decoded, str) else "".join(decoded)

        self._greedy = Engine(model, stops, stops[0], unrender=text, max_new_tokens=160)
        self._free = Engine(
            model, stops, stops[0], unrender=text, max_new_tokens=60, temperature=0.7, top_p=0.9, seed=1
        )

    def answers(self, conversations: Sequence[list[JsonObject]]) -> list[str]:
        """Answer each conversation greedily."""
        prompts = [Prompt(str(index), self._rendered(messages)) for index, messages in enumerate(conversations)]
        return [completion.text for completion in self._greedy(prompts)]

    def goes_on(self, beginning: str) -> str:
        """Go on with a text, sampled."""
        tokens = self._tokenizer.encode(f"<|begin|>{beginning}", add_special_tokens=False)
        return self._free([Prompt(beginning, tuple(tokens))])[0].text

    def _rendered(self, messages: list[JsonObject]) -> tuple[int, ...]:
        tokens = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)  # type: ignore[arg-type]
        return tuple(tokens)  # type: ignore[arg-type]


def main() -> None:
    data, labels = Path(sys.argv[1]), Path(sys.argv[2])
    folder = find_model(ModelSettings(name=sys.argv[3] if len(sys.argv) > 3 else STARTER))
    model = load_model(folder, torch.bfloat16)
    asked = Asked(model, load_tokenizer(folder), stop_tokens(folder))
    held_out = evaluate.rows_of(data / "heldout.jsonl")
    length = evaluate.model_code_length(model, Tokenizer.from_file(str(folder.path / "tokenizer.json")), held_out)
    skills = evaluate.skill_accuracies(data / "heldout_skills", asked.answers)
    train, test = (evaluate.labelled(labels / f"{part}.jsonl") for part in ("train", "test"))
    shots = evaluate.few_shot_labels(train, test, num_labels=5, shots=3, count=300, seed=0)
    few = evaluate.accuracy(shots, asked.answers)
    measured = {
        "weights": model.num_parameters(),
        "pretraining_tokens": PRETRAINING_TOKENS,
        "bits_per_byte": round(length.bits_per_byte, 4),
        "nats_per_token": round(length.bits / length.num_tokens * math.log(2), 4),
        "skills": {name: f"{found.right}/{found.asked}" for name, found in skills.items()},
        "few_shot_labels": f"{few.right}/{few.asked}",
        "samples": [_sample(path, asked) for path in sorted((data / "heldout_skills").glob("*.jsonl"))],
        "prose": [_prose(held_out, place, asked) for place in _PROSE],
    }
    print(json.dumps(measured, indent=1, ensure_ascii=False))


def _sample(path: Path, asked: Asked) -> dict[str, str]:
    messages: list[JsonObject] = evaluate.rows_of(path)[0]["messages"]  # type: ignore[assignment]
    prompt = "\n".join(str(message["content"]) for message in messages[:-1])
    shown = prompt if len(prompt) <= _SHOWN else f"... {prompt[-_SHOWN:]}"
    wanted = str(messages[-1]["content"])
    return {"skill": path.stem, "prompt": shown, "answer": asked.answers([messages[:-1]])[0], "wanted": wanted}


def _prose(rows: Sequence[JsonObject], place: int, asked: Asked) -> dict[str, str]:
    texts = [str(row["text"]) for row in rows if "text" in row]
    beginning = texts[place % len(texts)][:160].rpartition(" ")[0]
    return {"prompt": beginning, "answer": asked.goes_on(beginning)}


if __name__ == "__main__":
    main()
