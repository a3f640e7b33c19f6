"""The kinds of fields that a made-up command may have: what they are called, how they are introduced, what they hold."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from luthier.starter.draw import between, chance, fill, listed, pick
from luthier.starter.source import Source

Values = Callable[[np.random.Generator, Source], str]

_UNITS = listed("people times dollars boxes hours seats pages pounds days stars points bottles bags copies miles")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of field: nouns to name it by, phrases that introduce it, and what its values are."""

    nouns: tuple[str, ...]
    phrases: tuple[str, ...]
    values: Values


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
    if chance(rng, 0.25):
        span = " ".join(word if chance(rng, 0.6) else source.invented(rng) for word in span.split())
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
        ("at {}", "on {}", "by {}", "before {}", "after {}", "for {}", "starting {}", "no later than {}"),
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
            "labelled {}",
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

OBJECT = Kind(
    listed("title, item, object, thing, subject, name, song, show, film, text, product, entry, what, piece, work", ","),
    ("{}",),
    _title,
)
"""What a bare verb acts on, right behind it and without an introduction: "play {}", "add {} to ..."."""
