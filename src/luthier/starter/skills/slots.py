"""Copy the values that a command names into a JSON object, flat or nested, under keys given or shown."""

import json

import numpy as np

from luthier.core.types import JsonObject
from luthier.starter.commands import Action, actions, form, utterance
from luthier.starter.draw import chance, fill, listed, pick, shuffled
from luthier.starter.rows import Pair, chat, shown
from luthier.starter.source import Source

SHARE = 0.30
QUOTES_CORPUS = False

_NESTS = listed(
    "action,fields action,values command,args kind,details task,data type,fields name,arguments job,params what,with "
    "operation,entities request,info goal,parts label,fields function,arguments category,items"
)


def example(rng: np.random.Generator, source: Source) -> JsonObject:
    """Pose the extraction of a made-up task for one to eight commands."""
    task = actions(rng, source)
    shape = pick(rng, ("flat", "tagged", "nested", "nested", "nested"))
    outer, inner = pick(rng, _NESTS).split(",")
    stated_order = chance(rng, 0.3)

    def pair() -> Pair:
        action = pick(rng, task)
        if len(task) == 1 and chance(rng, 0.15):
            text, values = form(rng, source, action.all_fields)
        else:
            text, values = utterance(rng, source, action)
        if stated_order:
            values = {field.key: values[field.key] for field in action.all_fields if field.key in values}
        return Pair(text, json.dumps(_shaped(shape, outer, inner, action.label, values), ensure_ascii=False))

    pairs = [pair() for _ in range(pick(rng, (1, 2, 3, 4, 5, 6, 8)))]
    if len(pairs) > 2 and chance(rng, 0.55):
        instruction = _instruction(rng, task, shape, outer, inner) if chance(rng, 0.4) else _hint(rng)
        return shown(rng, instruction, pairs[:-1], pairs[-1])
    return chat(rng, _instruction(rng, task, shape, outer, inner), pairs)


def _shaped(shape: str, outer: str, inner: str, label: str, values: dict[str, str]) -> JsonObject:
    if shape == "flat":
        return dict(values)
    if shape == "tagged":
        return {outer: label, **{key: value for key, value in values.items() if key != outer}}
    return {outer: label, inner: dict(values)}


def _hint(rng: np.random.Generator) -> str:
    return fill(rng, "{|Extract the fields as JSON.|Turn the command into JSON.|Fill in the JSON.|Answer in JSON.}")


def _instruction(rng: np.random.Generator, task: list[Action], shape: str, outer: str, inner: str) -> str:
    keys = list(dict.fromkeys(field.key for action in task for field in action.all_fields))
    if chance(rng, 0.3):
        keys = shuffled(rng, keys)
    labels = ", ".join(action.label for action in task)
    if chance(rng, 0.4):
        blank = _shaped(shape, outer, inner, "...", dict.fromkeys(keys, "..."))
        text = fill(rng, "{Answer|Reply|Respond} {in this form|with this JSON|in exactly this format|like this}: ")
        text += json.dumps(blank, ensure_ascii=False)
        text += "." if shape == "flat" else f"\n{outer}: {labels}"
    else:
        listed = pick(rng, (", ".join, "; ".join, " | ".join))(keys)
        text = fill(rng, "{Extract|Find|Pull out|Collect|Copy|Fill in} the {fields|values|parts|details|slots}")
        text += (
            fill(rng, " {of the command|from the text|of the message|that are named|in the request} ")
            + f"as JSON: {listed}."
        )
        if shape == "tagged":
            text += f' The key "{outer}" is one of: {labels}.'
        if shape == "nested":
            text += f' Put them under "{inner}", beside "{outer}", which is one of: {labels}.'
    return text + fill(
        rng,
        "{| Leave out what is not said.| Only use keys whose value occurs.| Copy the values as they stand.| Use only JSON.}",
    )
