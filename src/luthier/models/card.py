"""The model card of a package: what it is, how good it measured, and how to load it without Luthier.

The front matter is the hub's (https://huggingface.co/docs/hub/model-cards). The table is drawn from
the verdict alone, so that a card never says more than was measured.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from luthier.core.types import JsonObject, JsonValue
from luthier.models.export import Format

# Where a judge was asked is nobody's business who reads the card.
_ADDRESS = re.compile(r"\burl=[^,]*")
REFUSED = "refused"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card tells. `verdict` is the run's verdict.json; `license` is the base model's, where it is known."""

    name: str
    base: str | None
    format: Format
    method: str
    verdict: JsonObject
    settings: JsonObject
    license: str | None = None
    limits: Sequence[str] = ()


def card(facts: CardFacts) -> str:
    """Write the card as Markdown with front matter."""
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True)
    sections = [
        f"---\n{front}---\n\n# {facts.name}",
        _what(facts),
        f"## Data\n\n{_data(facts.verdict)}",
        f"## Measured\n\n{_measured(facts.verdict)}",
        f"## Training\n\n{_table(['setting', 'value'], list(facts.settings.items()))}",
        f"## Limits\n\n{_limits(facts)}",
        f"## Load it\n\n```python\n{_snippet(facts)}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(facts: CardFacts) -> JsonObject:
    front: JsonObject = {}
    if facts.license:
        front["license"] = facts.license
    if facts.base and _HUB_ID.fullmatch(facts.base):
        front["base_model"] = facts.base
    front["library_name"] = "peft" if facts.format == "adapter" else "transformers"
    front["pipeline_tag"] = "text-generation"
    front["tags"] = ["luthier", facts.method]
    results = _results(facts.verdict)
    if results:
        front["model-index"] = [{"name": facts.name, "results": results}]
    return front


def _results(verdict: JsonObject) -> list[JsonValue]:
    """Return the tuned arm's figures as the hub's `model-index` has them; none where the verdict refuses the test."""
    tuned = _arms(verdict).get("tuned")
    if tuned is None or verdict.get("outcome") == REFUSED:
        return []
    grader = str(verdict["grader"]).partition(":")[0]
    score: JsonObject = {"type": grader, "name": "score", "value": tuned["score"]}
    if "interval" in tuned:
        score["args"] = {"interval_95": tuned["interval"]}
    metrics: list[JsonValue] = [score]
    numbers = tuned.get("metrics")
    if isinstance(numbers, dict):
        metrics += [{"type": key, "name": key, "value": value} for key, value in numbers.items() if _is_number(value)]
    task: JsonObject = {"type": "text-generation"}
    dataset: JsonObject = {"type": "private", "name": "sealed test rows", "split": "test"}
    sizes: JsonObject = {"rows": _read(verdict, "data", "test"), "clusters": verdict.get("clusters")}
    known: JsonObject = {key: value for key, value in sizes.items() if value is not None}
    if known:
        dataset["args"] = known
    return [{"task": task, "dataset": dataset, "metrics": metrics}]


def _read(verdict: JsonObject, section: str, key: str) -> JsonValue:
    found = verdict.get(section)
    return found.get(key) if isinstance(found, dict) else None


def _what(facts: CardFacts) -> str:
    origin = f"`{facts.base}` tuned" if facts.base else "A model trained from random weights"
    kind = "a PEFT adapter, to be loaded on top of its base" if facts.format == "adapter" else "whole merged weights"
    text = f"{origin} by Luthier ({facts.method}) on one task. This folder holds {kind}."
    because = facts.verdict.get("because")
    return f"{text}\n\n{because}" if because else text


def _data(verdict: JsonObject) -> str:
    data = verdict["data"]
    assert isinstance(data, dict)
    return _table(["rows", "count"], [(key, _dropped(value)) for key, value in data.items()])


def _measured(verdict: JsonObject) -> str:
    rows = [
        (
            arm,
            _number(result["score"]),
            _interval(result.get("interval")),
            result.get("tokens_in"),
            result.get("tokens_out"),
        )
        for arm, result in _arms(verdict).items()
    ]
    if verdict.get("outcome") == REFUSED:
        return "Nothing that can be claimed: the test rows are no test. The reason stands above."
    grader = _ADDRESS.sub("url=...", str(verdict["grader"]))
    lead = f"Score by the grader `{grader}` on the held-out test rows, with 95 % intervals.\n\n"
    return lead + _table(["arm", "score", "interval", "tokens in", "tokens out"], rows)


def _limits(facts: CardFacts) -> str:
    limits = [
        "The scores hold for data like the test rows, which come from the same source as the training rows.",
        "Beyond its one task the model may have lost some of what its base can do.",
        *facts.limits,
    ]
    return "\n".join(f"- {limit}" for limit in limits)


def _snippet(facts: CardFacts) -> str:
    ask = (
        'inputs = tokenizer.apply_chat_template([{"role": "user", "content": "..."}], add_generation_prompt=True, '
        'return_dict=True, return_tensors="pt")\n'
        "print(tokenizer.decode(model.generate(**inputs)[0]))"
    )
    if facts.format == "merged":
        return (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'tokenizer = AutoTokenizer.from_pretrained(".")\n'
            f'model = AutoModelForCausalLM.from_pretrained(".")\n{ask}'
        )
    return (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig\n\n"
        'tokenizer = AutoTokenizer.from_pretrained(".")\n'
        f'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{facts.base}"), ".")\n'
        f'model.generation_config = GenerationConfig.from_pretrained(".")\n{ask}'
    )


def _arms(verdict: JsonObject) -> dict[str, JsonObject]:
    arms = verdict.get("arms")
    return {name: arm for name, arm in arms.items() if isinstance(arm, dict)} if isinstance(arms, dict) else {}


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def _dropped(value: JsonValue) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{rule}: {count}" for rule, count in value.items()) or "0"
    return str(value)


def _interval(value: JsonValue) -> str:
    return " to ".join(_number(end) for end in value) if isinstance(value, list) else ""


def _number(value: JsonValue) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
