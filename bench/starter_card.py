"""Write the card of the starter from what `bench/starter.py` measured.

python bench/starter.py build/starter/measured ../shared/data/tasks/banking77 > build/starter/measured.json
python bench/starter_card.py build/starter/measured.json > src/luthier/starter/model/README.md
"""

import json
import sys
from pathlib import Path

_FRONT = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [luthier]
---

# The starter

A small Llama of {weights:,} weights that ships with Luthier, pretrained by Luthier's own code in three minutes of one GPU: about {tokens} tokens, half books,
dialogues and plain prose, half generated rows that ask for copying, looking up, sorting and JSON. It exists so that everything works with no download. How it was
made is told in `docs/starter.md`.

**What it can do**: be tuned for narrow work (labels, fields into JSON, short forms) in minutes on two cores.
**What it cannot do**: know facts, reason, hold a conversation, or follow an instruction that it was not tuned for. What it does untuned says little about what prompting
does for a large model. It has learned from old books and film dialogues, with what they hold of their time.

## Measured

Held-out text: {bits} bits per byte. Few-shot labels (five labels of Banking77, three examples of each in the prompt): {few_shot} answered to the letter; guessing gives one in five.

| skill, held-out rows | right to the letter |
|---|---|
{skills}

## Samples, untuned

One held-out row of each skill, the first, not the best; then prose, sampled at temperature 0.7. Long prompts are cut at the front, long answers at the end.

{samples}

## Load it

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
```
"""


_SHOWN = 160


def main() -> None:
    measured = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    skills = "\n".join(f"| `{name}` | {share} |" for name, share in measured["skills"].items())
    samples = "\n\n".join([*map(_chat, measured["samples"]), *map(_prose, measured["prose"])])
    words = _FRONT.format(
        weights=measured["weights"],
        tokens=measured["pretraining_tokens"],
        bits=measured["bits_per_byte"],
        few_shot=measured["few_shot_labels"],
        skills=skills,
        samples=samples,
    )
    print(words, end="")


def _chat(sample: dict[str, str]) -> str:
    verdict = "right" if sample["answer"] == sample["wanted"] else f"wanted `{_line(sample['wanted'])}`"
    answer = sample["answer"] if len(sample["answer"]) <= _SHOWN else f"{sample['answer'][:_SHOWN]} ..."
    return f"- `{sample['skill']}`: {_line(sample['prompt'])}\n  - **{_line(answer) or '(nothing)'}** ({verdict})"


def _prose(sample: dict[str, str]) -> str:
    return f"- {_line(sample['prompt'])} **{_line(sample['answer'])}**"


def _line(text: str) -> str:
    return " / ".join(text.split("\n")).replace("`", "'").replace("*", "\\*").strip()


if __name__ == "__main__":
    main()
