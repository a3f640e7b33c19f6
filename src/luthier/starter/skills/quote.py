"""Quote from real text: a whole line, the sentence with a word, what follows a phrase, a number, the words in quotes."""

import json
import re
from collections.abc import Callable

import numpy as np

from luthier.core.types import JsonObject
from luthier.starter.draw import between, chance, fill, pick, some
from luthier.starter.rows import Pair, chat, shown
from luthier.starter.source import Source, words_of

SHARE = 0.16
QUOTES_CORPUS = True

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_QUOTED = re.compile(r'(?:(?<=^)|(?<=[\s(—]))"([^"\s](?:[^"\n]{0,118}[^"\s])?)"')


def example(rng: np.random.Generator, source: Source) -> JsonObject:
    """Pose a quotation from one or several texts; those that take one text each may be shown by examples."""
    kind = rng.random()
    if kind < 0.34:
        return _fixed_rule(rng, source)
    if kind < 0.62:
        return _on_passage(rng, source)
    if kind < 0.74:
        return chat(rng, *_line(rng, source))
    if kind < 0.86:
        return _repeat(rng, source)
    return _after(rng, source)


def _fixed_rule(rng: np.random.Generator, source: Source) -> JsonObject:
    """One rule for a series of sentences: the first words, the last words, the part in quotes ..."""
    count = between(rng, 1, 4)
    some_words = "word" if count == 1 else f"{('', 'two', 'three', 'four')[count - 1]} words"
    rules: tuple[tuple[str, Callable[[str], str]], ...] = (
        (f"Quote the first {some_words}.", lambda text: " ".join(text.split()[:count])),
        (f"Quote the last {some_words}.", lambda text: " ".join(text.split()[-count:])),
        (f"Leave out the first {some_words}.", lambda text: " ".join(text.split()[count:])),
        ("Repeat the text.", str),
        ("What stands in quotes?", _in_quotes),
        ("Write the longest word.", lambda text: max(words_of(text) or [text], key=len)),
        (
            "List the words with a capital letter.",
            lambda text: ", ".join(w for w in words_of(text) if w[0].isupper()) or "none",
        ),
        ("What comes before the first comma?", lambda text: text.partition(",")[0]),
        ("What comes after the last comma?", lambda text: text.rpartition(",")[2].strip()),
    )
    instruction, apply = pick(rng, rules)
    marked = "quotes" in instruction
    instruction = fill(rng, "{|Task: |Please do this. |For every text: }") + instruction
    texts = [_with_quotes(rng, source) if marked else source.sentence(rng) for _ in range(between(rng, 1, 6))]
    key = fill(rng, "{quote|text|words|found|span|part|out|value}") if chance(rng, 0.25) else ""
    if key:
        instruction += f' Answer as JSON with the key "{key}".'
    answers = [apply(text) or text for text in texts]
    pairs = [
        Pair(text, json.dumps({key: answer}, ensure_ascii=False) if key else answer)
        for text, answer in zip(texts, answers)
    ]
    if len(pairs) > 2 and chance(rng, 0.5):
        return shown(rng, instruction if chance(rng, 0.6) else "", pairs[:-1], pairs[-1])
    return chat(rng, instruction, pairs)


def _in_quotes(text: str) -> str:
    found = _QUOTED.search(text)
    assert found is not None
    return found[1]


def _with_quotes(rng: np.random.Generator, source: Source) -> str:
    for _ in range(20):
        sentence = source.sentence(rng)
        if _QUOTED.search(sentence):
            return sentence
    lead = fill(rng, "{The sign said|She called it|The title is|It is named|He wrote|They shouted|We read}")
    return f'{lead} "{source.span(rng, 1, 6)}"{fill(rng, "{ and left.|.| again.| on the wall.}")}'


def _on_passage(rng: np.random.Generator, source: Source) -> JsonObject:
    """Quote the sentences of a passage that hold given words."""
    sentences = list(dict.fromkeys(source.sentence(rng) for _ in range(between(rng, 3, 6))))
    words_in = [set(words_of(sentence)) for sentence in sentences]
    pairs: list[Pair] = []
    for index in some(rng, range(len(sentences)), between(rng, 1, 3)):
        others = set().union(*(words for place, words in enumerate(words_in) if place != index))
        own = sorted(word for word in words_in[index] - others if len(word) > 3)
        if own:
            word = pick(rng, own)
            asked = fill(
                rng,
                "{Which sentence has the word|Quote the sentence with|Find the sentence that mentions|Where is the word}",
            )
            pairs.append(Pair(f'{asked} "{word}"{"?" if asked.startswith("W") else "."}', sentences[index]))
    if not pairs:
        pairs = [Pair(fill(rng, "{Quote the first sentence.|What is the first sentence?}"), sentences[0])]
    return chat(rng, pick(rng, (" ", "\n")).join(sentences), pairs)


def _line(rng: np.random.Generator, source: Source) -> tuple[str, list[Pair]]:
    lines = [source.sentence(rng) if chance(rng, 0.4) else source.span(rng, 2, 6) for _ in range(between(rng, 3, 8))]
    numbered = chance(rng, 0.5)
    text = "\n".join(f"{number}. {line}" if numbered else line for number, line in enumerate(lines, start=1))
    pairs = []
    for index in some(rng, range(len(lines)), between(rng, 1, 4)):
        which = f"line {index + 1}" if chance(rng, 0.5) else f"the {_ORDINALS[index]} line"
        pairs.append(
            Pair(
                fill(rng, "{Copy|Quote|What is|Repeat|Write down|Read out} ") + which + fill(rng, "{.|}"), lines[index]
            )
        )
    return text, pairs


def _repeat(rng: np.random.Generator, source: Source) -> JsonObject:
    text = source.sentence(rng) if chance(rng, 0.6) else source.passage(rng)[: between(rng, 120, 500)].rsplit(" ", 1)[0]
    asked = fill(
        rng,
        "{Repeat|Copy|Write|Say|Echo|Give back} {this|the following|the text|these words}{| exactly| word for word| as it is| again}{:|.}",
    )
    return chat(rng, asked, [Pair(text, text)])


def _after(rng: np.random.Generator, source: Source) -> JsonObject:
    passage = source.passage(rng)
    words = passage.split(" ")
    start = between(rng, 0, len(words) - 12)
    count = between(rng, 2, 8)
    phrase, follows = " ".join(words[start : start + 3]), " ".join(words[start + 3 : start + 3 + count])
    before = f'Quote the {count} words that {fill(rng, "{come|stand|follow|are}")} right after "{phrase}".'
    return chat(rng, before, [Pair(passage, follows)])
