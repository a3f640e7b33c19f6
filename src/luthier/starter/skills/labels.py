"""Pick one label from a list: by topic, by likeness to shown examples, by matter, by a stated rule, by feeling or by form."""

import json

import numpy as np

from luthier.core.types import JsonObject
from luthier.starter import names
from luthier.starter.draw import between, chance, fill, listed, pick, shuffled, some
from luthier.starter.rows import Pair, chat, shown
from luthier.starter.source import Source

SHARE = 0.14
QUOTES_CORPUS = False

_GOOD = listed(
    "love, enjoyed, adore, am happy with, was amazed by, really like, recommend, can't get enough of, am glad about",
    ",",
)
_BAD = listed(
    "hate, regret, can't stand, am angry about, was bored by, really dislike, am tired of, was let down by, am sad about",
    ",",
)
_FLAT = listed(
    "heard of, saw, passed by, read about, was told of, looked at, asked about, walked past, wrote down", ","
)
_FEELINGS = (
    ("positive", "negative", "neutral"),
    ("good", "bad", "neither"),
    ("happy", "unhappy", "indifferent"),
    ("praise", "complaint", "fact"),
    ("likes it", "dislikes it", "no opinion"),
    ("+", "-", "0"),
)


def example(rng: np.random.Generator, source: Source) -> JsonObject:
    """Pose a classification of one to eight texts."""
    kind = rng.random()
    if kind < 0.56:
        return _by_topic(rng, source, by_likeness=kind < 0.28)
    if kind < 0.70:
        return _by_dialogue(rng, source)
    if kind < 0.84:
        return _by_rule(rng, source)
    if kind < 0.92:
        return _by_feeling(rng, source)
    return _by_form(rng, source)


def _by_topic(rng: np.random.Generator, source: Source, *, by_likeness: bool) -> JsonObject:
    """Texts share a topic word with the label's name, or, by likeness, only with a text that was shown."""
    topics = some(rng, source.topics, between(rng, 2, 6))
    style = pick(rng, names.STYLES)
    label_of = {topic: names.label(rng, source, style, None if by_likeness else topic) for topic in topics}
    shots, rest = [], []
    for topic in topics:
        found = source.about(rng, topic, 3, without=topics)
        pairs = [Pair(text, label_of[topic]) for text in found]
        shots += pairs[:1]
        rest += pairs[1:]
    labels = shuffled(rng, list(label_of.values()))
    if not by_likeness:
        asked = some(rng, shots + rest, between(rng, 1, 8))
        return _posed(rng, labels, asked)
    extra, asked = rest[len(rest) // 2 :], pick(rng, rest or shots)
    solved = shuffled(rng, shots + [pair for pair in extra if pair != asked and chance(rng, 0.4)])
    return shown(
        rng, _instruction(rng, labels) if chance(rng, 0.6) else "", [pair for pair in solved if pair != asked], asked
    )


def _by_dialogue(rng: np.random.Generator, source: Source) -> JsonObject:
    """Every label stands for one dialogue; the text asked about is another turn of one of them."""
    style = pick(rng, names.STYLES)
    solved: list[Pair] = []
    asked: list[Pair] = []
    for exchange in some(rng, source.exchanges, between(rng, 2, 5)):
        label = names.label(rng, source, style)
        said = some(rng, exchange, between(rng, 2, 4))
        solved += [Pair(text, label) for text in said[1:]]
        asked.append(Pair(said[0], label))
    labels = shuffled(rng, [pair.answer for pair in asked])
    instruction = _instruction(rng, labels) if chance(rng, 0.7) else ""
    return shown(rng, instruction, shuffled(rng, solved), pick(rng, asked))


def _by_rule(rng: np.random.Generator, source: Source) -> JsonObject:
    topics = some(rng, source.topics, between(rng, 1, 4))
    style = pick(rng, names.STYLES)
    label_of = {topic: names.label(rng, source, style) for topic in topics}
    otherwise = names.label(rng, source, style) if chance(rng, 0.6) else fill(rng, "{other|none|nothing|unknown|rest}")
    pairs = [
        Pair(text, label_of[topic]) for topic in topics for text in source.about(rng, topic, between(rng, 1, 2), topics)
    ]
    for _ in range(between(rng, 0, 2)):
        text = source.utterance(rng)
        if not any(topic in text.lower() for topic in topics):
            pairs.append(Pair(text, otherwise))
    verb = fill(rng, "{mentions|contains|speaks of|has the word|is about}")
    answer = fill(rng, "{answer|reply|say|write|the label is}")
    rules = [f'If the text {verb} "{topic}", {answer} {label}.' for topic, label in label_of.items()]
    rules.append(f"{fill(rng, '{Otherwise|In all other cases|If none of these fits|Else}')}, {answer} {otherwise}.")
    return chat(
        rng, pick(rng, (" ", "\n")).join(rules), shuffled(rng, pairs) or [Pair(source.utterance(rng), otherwise)]
    )


def _by_feeling(rng: np.random.Generator, source: Source) -> JsonObject:
    labels = pick(rng, _FEELINGS)
    pairs = []
    for _ in range(between(rng, 1, 7)):
        which = between(rng, 0, 2)
        verb = pick(rng, (_GOOD, _BAD, _FLAT)[which])
        who = fill(rng, "{I|We|My sister and I|All of us}") if " am " not in f" {verb} " and "was " not in verb else "I"
        text = f"{who} {verb} {fill(rng, '{the|this|that|their|your}')} {source.word(rng)}{fill(rng, '{.|!| today.| in the end.|}')}"
        pairs.append(Pair(text, labels[which]))
    return _posed(rng, list(labels), pairs)


def _by_form(rng: np.random.Generator, source: Source) -> JsonObject:
    kind = pick(rng, ("question", "short", "number"))
    labels = {
        "question": fill(rng, "{question,statement|question,other|asks,tells|yes,no}").split(","),
        "short": fill(rng, "{short,long|brief,lengthy|few words,many words}").split(","),
        "number": fill(rng, "{yes,no|number,no number|digits,words only|true,false}").split(","),
    }[kind]
    task = {
        "question": "Is the text a question?",
        "short": "Does the text have at most eight words?",
        "number": "Is there a number in digits in the text?",
    }[kind]
    pairs = []
    for _ in range(between(rng, 2, 6)):
        text = source.utterance(rng)
        if kind == "number" and chance(rng, 0.5):
            text += f" {between(rng, 2, 999)}"
        holds = {
            "question": text.endswith("?"),
            "short": len(text.split()) <= 8,
            "number": any(c.isdigit() for c in text),
        }
        pairs.append(Pair(text, labels[0] if holds[kind] else labels[1]))
    return chat(rng, f"{task} Answer {labels[0]} if so, else {labels[1]}.", pairs)


def _posed(rng: np.random.Generator, labels: list[str], pairs: list[Pair]) -> JsonObject:
    instruction = _instruction(rng, labels)
    if chance(rng, 0.15):
        key = fill(rng, "{label|class|category|answer|result|choice}")
        instruction += f' {fill(rng, "{Answer|Reply}")} as JSON with the key "{key}".'
        pairs = [Pair(pair.text, json.dumps({key: pair.answer}, ensure_ascii=False)) for pair in pairs]
    return chat(rng, instruction, pairs)


def _instruction(rng: np.random.Generator, labels: list[str]) -> str:
    joined = pick(rng, (", ".join, ", ".join, "\n".join, " | ".join, "; ".join, json.dumps))(labels)
    if "\n" in joined:
        joined = "\n" + "\n".join(f"- {label}" for label in labels) if chance(rng, 0.5) else "\n" + joined
    asked = fill(
        rng,
        "{Classify|Label|Sort|Tag|Categorize|Which of these fits|Name the class of|Choose the label of|Decide on} the "
        "{text|message|sentence|request|question|utterance}{|. Use one label| with one of the labels|. Pick one|. One word from the list}",
    )
    end = fill(rng, "{| Answer with the label only.| Reply with nothing but the label.| Only write the label.}")
    return (
        f"{asked}: {joined}{end}" if not end or joined.endswith("]") or "\n" in joined else f"{asked}: {joined}.{end}"
    )
