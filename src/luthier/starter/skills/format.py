"""Follow a rule on the answer's form: JSON, a comma list, numbered lines, capitals, a set end, so many words."""

import json
from collections.abc import Callable

import numpy as np

from luthier.core.types import JsonObject
from luthier.starter.draw import between, chance, fill, pick, some
from luthier.starter.rows import Pair, chat
from luthier.starter.source import Source

SHARE = 0.03
QUOTES_CORPUS = False

Form = tuple[str, Callable[[list[str]], str]]


def example(rng: np.random.Generator, source: Source) -> JsonObject:
    """Name a few things in passing and ask for them in a given form, for one to five texts."""
    rule, write = pick(rng, _forms(rng, source))
    wanted = fill(rng, "{What things are named?|List what is needed.|Which items are there?|Name the items.}")
    pairs = []
    for _ in range(between(rng, 1, 5)):
        items = _items(rng, source)
        named = f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else items[0]
        lead = fill(
            rng,
            "{We need|I saw|Bring|She asked for|Do not forget|They sell|There were|He likes|In the box:|My list is}",
        )
        pairs.append(Pair(f"{lead} {named}{fill(rng, '{.||!| today.| again.}')}", write(items)))
    instruction = f"{wanted} {rule}" if chance(rng, 0.7) else f"{rule} {wanted}"
    return chat(rng, instruction, pairs)


def _items(rng: np.random.Generator, source: Source) -> list[str]:
    count = between(rng, 1, 5)
    if chance(rng, 0.7):
        return some(rng, source.words, count)
    return [f"{between(rng, 2, 90)} {source.word(rng)}" for _ in range(count)]


def _forms(rng: np.random.Generator, source: Source) -> tuple[Form, ...]:
    key = fill(rng, "{answer|items|list|things|result|names|found}")
    end = source.word(rng)
    return (
        (f'Answer in JSON with the key "{key}".', lambda items: json.dumps({key: items}, ensure_ascii=False)),
        (f'Answer in JSON with the key "{key}", as one text.', lambda items: json.dumps({key: ", ".join(items)})),
        ("Answer as a JSON list.", lambda items: json.dumps(items, ensure_ascii=False)),
        ("Answer as a comma list.", ", ".join),
        ("Answer in capitals.", lambda items: ", ".join(items).upper()),
        ("Put each on its own line.", "\n".join),
        ("Answer with bullets.", lambda items: "\n".join(f"- {item}" for item in items)),
        ("Number the lines.", lambda items: "\n".join(f"{n}. {item}" for n, item in enumerate(items, start=1))),
        ("Answer with the number of things only.", lambda items: str(len(items))),
        ("Answer with the first one only.", lambda items: items[0]),
        ("Answer with the last one only.", lambda items: items[-1]),
        (f'End with the word "{end}".', lambda items: f"{', '.join(items)} {end}"),
        ("Answer in a sentence that begins with: The things are", lambda items: f"The things are {', '.join(items)}."),
        ("Separate them with semicolons.", "; ".join),
    )
