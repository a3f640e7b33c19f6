"""Made-up commands and requests with fields in them: "put ten lanterns on the harbor list by friday".

A task is a handful of actions over shared fields. A field has a key, words that introduce it and
values that are mostly spans of real text, so that finding where a value ends needs reading.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from luthier.starter import names
from luthier.starter.draw import between, chance, fill, listed, pick, shuffled, some
from luthier.starter.source import Source

Values = Callable[[np.random.Generator, Source], str]

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
_UNITS = listed("people times dollars boxes hours seats pages pounds days stars points bottles bags copies miles")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of field: nouns to name it by, phrases that introduce it, and what its values are."""

    nouns: tuple[str, ...]
    phrases: tuple[str, ...]
    values: Values


@dataclass(frozen=True, slots=True)
class Field:
    """A field of one task: its key, its kind and the phrases that this task uses for it."""

    key: str
    kind: Kind
    phrases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Action:
    """What a command asks for: its label, the openings that tell it, and the fields that it may have."""

    label: str
    openings: tuple[str, ...]
    fields: tuple[Field, ...]


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
    chosen = some(rng, action.fields, pick(rng, (1, 2, 2, 3, 3, 4, 5)))
    lower = chance(rng, 0.3)
    opening = pick(rng, action.openings)
    text = opening if opening.startswith(_ASKS) else pick(rng, _LEADS) + opening
    values: dict[str, str] = {}
    for field in chosen:
        value = field.kind.values(rng, source)
        values[field.key] = value.lower() if lower else value
        text += " " + pick(rng, field.phrases).replace("{}", values[field.key])
    text += pick(rng, _TAILS)
    if lower:
        return text.lower(), values
    return _finished(rng, text), values


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
    openings = [f"{verb} {fill(rng, '{a|the|my|this|our|another|one|some}')} {thing}"]
    if chance(rng, 0.35):
        openings = [verb]
    if chance(rng, 0.4):
        openings.append(f"{pick(rng, _VERBS)} {fill(rng, '{a|the|my}')} {thing}")
    if chance(rng, 0.25):
        openings.append(f"{pick(rng, _ASKS)} {thing}")
    if chance(rng, 0.75):
        label = names.styled([verb, thing], style)
    else:
        label = names.label(rng, source, style)
    return Action(label, tuple(openings), tuple(some(rng, fields, between(rng, 1, len(fields)))))


def _fields(rng: np.random.Generator, source: Source, count: int) -> list[Field]:
    """Make fields whose keys and introducing phrases differ, so that a reader can tell them apart."""
    style = pick(rng, ("snake", "snake", "snake", "camel", "pascal", "spaced", "kebab"))
    fields: dict[str, Field] = {}
    used: set[str] = set()
    kinds = shuffled(rng, KINDS * 2)
    for kind in kinds:
        free = [phrase for phrase in kind.phrases if phrase not in used]
        if chance(rng, 0.12):
            free = [f"{source.word(rng)} {{}}", f"{fill(rng, '{with|of|under|as}')} {source.word(rng)} {{}}"]
        if not free:
            continue
        phrases = some(rng, free, pick(rng, (1, 1, 2, 3)))
        key = (
            names.key(rng, style, kind.nouns)
            if chance(rng, 0.85)
            else names.styled([source.word(rng), source.word(rng)], style)
        )
        if key not in fields:
            fields[key] = Field(key, kind, tuple(phrases))
            used.update(phrases)
        if len(fields) == count:
            break
    return list(fields.values())


def _finished(rng: np.random.Generator, text: str) -> str:
    kind = rng.random()
    if kind < 0.45:
        text = text[0].upper() + text[1:]
    return text + pick(rng, ("", "", ".", ".", "!", "?"))


def _person(rng: np.random.Generator, source: Source) -> str:
    return source.name(rng) if chance(rng, 0.4) else f"{source.name(rng)} {source.name(rng)}"


def _place(rng: np.random.Generator, source: Source) -> str:
    kind = rng.random()
    if kind < 0.4:
        return source.name(rng)
    if kind < 0.7:
        return f"{source.name(rng)} {fill(rng, '{Street|Hill|Park|Bay|Lane|Bridge|Valley|Springs|Point|Falls|Road|Square}')}"
    return f"the {source.word(rng)} {fill(rng, '{house|shop|inn|hall|corner|room|station|yard|market|office}')}"


def _time(rng: np.random.Generator, source: Source) -> str:
    kind = rng.random()
    if kind < 0.3:
        return f"{between(rng, 1, 12)}{fill(rng, '{ am| pm|am|pm|:00|:30|:15 pm|:45|:10 am}')}"
    if kind < 0.55:
        return fill(
            rng, "{monday|Tuesday|Wednesday|thursday|Friday|Saturday|sunday} {morning|evening|night|at noon|afternoon}"
        )
    if kind < 0.75:
        return fill(rng, "{next|this|the following} {week|weekend|month|spring|summer|fall|winter|monday|Friday}")
    if kind < 0.9:
        return f"{fill(rng, '{January|March|april|May|June|july|August|October|december}')} {between(rng, 1, 30)}"
    return f"{between(rng, 2, 30)} {fill(rng, '{minutes|hours|days|weeks|months}')} from now"


def _number(rng: np.random.Generator, source: Source) -> str:
    if chance(rng, 0.3):
        return fill(rng, "{one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|a dozen}")
    return str(between(rng, 1, pick(rng, (9, 20, 100, 1000, 9999))))


def _title(rng: np.random.Generator, source: Source) -> str:
    span = source.span(rng, 1, pick(rng, (2, 3, 4, 6)))
    return pick(rng, (str, str, str.lower, _capitals))(span)


def _capitals(text: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in text.split())


def _quality(rng: np.random.Generator, source: Source) -> str:
    if chance(rng, 0.4):
        return fill(rng, "{red|blue|green|cheap|small|large|quiet|old|warm|spicy|sweet|fast|modern|wooden|light|heavy}")
    return source.word(rng)


KINDS = (
    Kind(
        listed(
            "name, person, guest, contact, recipient, caller, friend, host, writer, teacher, who, customer, sender, author, driver",
            ",",
        ),
        ("for {}", "with {}", "from {}", "to {}", "by {}", "and tell {}", "together with {}", "for my friend {}"),
        _person,
    ),
    Kind(
        listed(
            "place, town, area, village, destination, origin, venue, street, where, region, address, stop, spot, harbor",
            ",",
        ),
        ("in {}", "near {}", "at {}", "to {}", "from {}", "around {}", "close to {}", "over in {}", "outside {}"),
        _place,
    ),
    Kind(
        listed("time, day, date, when, hour, deadline, start, due date, moment, arrival", ","),
        ("at {}", "on {}", "by {}", "before {}", "after {}", "for {}", "{}", "starting {}", "no later than {}"),
        _time,
    ),
    Kind(
        listed("count, amount, number, quantity, price, size, seats, people, score, points, total, how many", ","),
        ("for {}", *(f"{{}} {unit}" for unit in _UNITS), "for {} people", "{} out of 5", "number {}", "at {} dollars"),
        _number,
    ),
    Kind(
        listed(
            "title, item, topic, subject, message, note, thing, song, show, movie, story, text, project, group, collection, object",
            ",",
        ),
        (
            "called {}",
            "named {}",
            '"{}"',
            "titled {}",
            "{}",
            "about {}",
            "the one called {}",
            "onto {}",
            "into {}",
            "to {}",
        ),
        _title,
    ),
    Kind(
        listed(
            "title, item, topic, subject, list, file, thing, label, words, query, keyword, product, program, saga", ","
        ),
        (
            "{}",
            "called {}",
            "saying {}",
            "on {}",
            "to my {} list",
            "to the {} folder",
            "from {}",
            "with the words {}",
            "that says {}",
        ),
        _title,
    ),
    Kind(
        listed("color, kind, type, style, flavor, mood, quality, shape, material", ","),
        ("in {}", "that is {}", "the {} one", "a {} one", "something {}", "of the {} kind", "{} style"),
        _quality,
    ),
)
