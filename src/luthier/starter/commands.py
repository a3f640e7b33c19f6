"""Made-up commands and requests with fields in them: "put ten lanterns on the harbor list by friday".

A task is a handful of actions over shared fields. A field has a key, words that introduce it and
values that are mostly spans of real text, so that finding where a value ends needs reading.
"""

from dataclasses import dataclass

import numpy as np

from luthier.starter import names
from luthier.starter.draw import between, chance, fill, listed, pick, shuffled, some
from luthier.starter.kinds import KINDS, OBJECT, Kind
from luthier.starter.source import Source

_VERBS = listed(
    "book order buy get send bring put move schedule reserve show start stop call track save print open rent clean "
    "plan fix paint deliver pack make cook read watch sell lend note file store hide draw ship pick check list"
)
_THINGS = listed(
    "table room ticket seat ride car boat lesson parcel letter cake lunch dinner coffee bike tour game photo report "
    "list box lamp chair garden concert talk race film song story poster key visit trip bag order"
)
_LEADS = (
    "",
    "",
    "",
    "",
    "please ",
    "can you ",
    "could you ",
    "I want to ",
    "I'd like to ",
    "I need to ",
    "help me ",
    "let's ",
    "would you ",
    "hey, ",
    "I have to ",
    "we should ",
    "go ahead and ",
)
_TAILS = ("", "", "", "", " please", " thanks", " if you can", " for me", " right away", " soon", " again")
_ASKS = (
    "what is the",
    "is there a",
    "what's the",
    "will there be a",
    "how is the",
    "where is the",
    "do you have a",
    "when is the",
)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of one task: its key, its kind and the phrases that this task uses for it."""

    key: str
    kind: Kind
    phrases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Action:
    """What a command asks for: its label, the openings that tell it, and the fields that it may have.

    An action that opens with a bare verb has an `object`, which is always there: "play {}".
    """

    label: str
    openings: tuple[str, ...]
    fields: tuple[Field, ...]
    object: Field | None = None

    @property
    def all_fields(self) -> tuple[Field, ...]:
        """The fields in the order in which they are stated, the object first."""
        return (self.object, *self.fields) if self.object else self.fields


def actions(rng: np.random.Generator, source: Source) -> list[Action]:
    """Make the actions of a task: one to five, over three to seven shared fields with distinct keys."""
    fields = _fields(rng, source, between(rng, 2, 7))
    style = pick(rng, names.STYLES)
    made: dict[str, Action] = {}
    for _ in range(pick(rng, (1, 2, 2, 3, 3, 4, 5))):
        action = _action(rng, source, style, fields)
        made[action.label] = action
    return list(made.values())


def utterance(rng: np.random.Generator, source: Source, action: Action) -> tuple[str, dict[str, str]]:
    """Say one command and return it with the values by key, in the order in which they occur."""
    lower = chance(rng, 0.3)
    values: dict[str, str] = {}

    def phrase(field: Field) -> str:
        value = field.kind.values(rng, source)
        values[field.key] = value.lower() if lower else value
        return pick(rng, field.phrases).replace("{}", values[field.key])

    chosen = some(rng, action.fields, pick(rng, (0, 1, 1, 2, 2, 3, 4) if action.object else (1, 2, 2, 3, 3, 4, 5)))
    ahead = f"{phrase(chosen.pop())}{fill(rng, '{, |, | }')}" if chosen and chance(rng, 0.08) else ""
    opening = pick(rng, action.openings)
    text = ahead + (opening if opening.startswith(_ASKS) else pick(rng, _LEADS) + opening)
    for field in (action.object, *chosen) if action.object else chosen:
        text += " " + phrase(field)
    text += pick(rng, _TAILS)
    if lower:
        return text.lower(), values
    # A value that stands ahead keeps its own first letter.
    capital = not ahead and chance(rng, 0.45)
    return (text[0].upper() + text[1:] if capital else text) + pick(rng, ("", "", ".", ".", "!", "?")), values


def form(rng: np.random.Generator, source: Source, fields: tuple[Field, ...]) -> tuple[str, dict[str, str]]:
    """Write the fields as the lines of a form, each behind its spoken name."""
    mark = pick(rng, (": ", " - ", " = ", ":\t"))
    values = {field.key: field.kind.values(rng, source) for field in some(rng, fields, between(rng, 1, len(fields)))}
    lines = [f"{spoken(key).capitalize()}{mark}{value}" for key, value in values.items()]
    return pick(rng, ("\n", "\n", "; ")).join(lines), values


def spoken(key: str) -> str:
    """Write a key as plain words: "first_name" and "firstName" become "first name"."""
    spaced = "".join(f" {letter.lower()}" if letter.isupper() and not key.isupper() else letter for letter in key)
    return spaced.replace("_", " ").replace("-", " ").lower().strip()


def _action(rng: np.random.Generator, source: Source, style: names.Style, fields: list[Field]) -> Action:
    verb = pick(rng, _VERBS)
    thing = pick(rng, _THINGS) if chance(rng, 0.6) else source.word(rng)
    label = names.styled([verb, thing], style) if chance(rng, 0.75) else names.label(rng, source, style)
    some_fields = tuple(some(rng, fields, between(rng, 1, len(fields))))
    target = fields[0] if fields[0].kind is OBJECT and chance(rng, 0.6) else None
    if target:
        openings = (verb, pick(rng, _VERBS)) if chance(rng, 0.4) else (verb,)
        return Action(label, openings, tuple(field for field in some_fields if field.kind is not OBJECT), target)
    openings = (f"{verb} {fill(rng, '{a|the|my|this|our|another|one|some}')} {thing}",)
    if chance(rng, 0.4):
        openings += (f"{pick(rng, _VERBS)} {fill(rng, '{a|the|my}')} {thing}",)
    if chance(rng, 0.25):
        openings += (f"{pick(rng, _ASKS)} {thing}",)
    return Action(label, openings, tuple(field for field in some_fields if field.kind is not OBJECT) or some_fields)


def _fields(rng: np.random.Generator, source: Source, count: int) -> list[Field]:
    """Make fields whose keys and introducing phrases differ, so that a reader can tell them apart.

    If there is a field for the object of a bare verb, it is the first.
    """
    style = pick(rng, ("snake", "snake", "snake", "camel", "pascal", "spaced", "kebab"))
    fields: dict[str, Field] = {}
    used: set[str] = set()
    kinds = shuffled(rng, KINDS * 2)[: count + 3]
    for kind in [OBJECT, *kinds] if chance(rng, 0.5) else kinds:
        free = [phrase for phrase in kind.phrases if phrase not in used]
        if kind is not OBJECT and chance(rng, 0.12):
            free = [f"{source.word(rng)} {{}}", f"{fill(rng, '{with|of|under|as}')} {source.word(rng)} {{}}"]
        if chance(rng, 0.85):
            key = names.key(rng, style, kind.nouns)
        else:
            key = names.styled([source.word(rng), source.word(rng)], style)
        if free and key not in fields and len(fields) < count:
            phrases = some(rng, free, pick(rng, (1, 1, 2, 3)))
            fields[key] = Field(key, kind, tuple(phrases))
            used.update(phrases)
    return list(fields.values())
