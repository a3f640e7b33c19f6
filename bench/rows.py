"""Make rows for the benches: support tickets of about 1 KB, with the defects that real exports have.

    python bench/rows.py 100000 tickets.jsonl --seed 0

One row in ten is filled into a long template, and small shares are copies, copies with a few words
changed, copies with another answer, or carry private data. Row i depends on the seed and the rows
shortly before it; nothing is held but the last thousand rows, so a million take no memory.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from luthier.core.hashing import generator
from luthier.core.types import JsonObject

KINDS = ("plain", "template", "duplicate", "near_duplicate", "contradiction", "private")
SHARES = (0.83, 0.10, 0.02, 0.03, 0.01, 0.01)
_REMEMBERED = 1000
_WORDS = 30_000
_SYLLABLES = "ba be bo da de di fa fi ga go ha hi ka ke ko la le li lo ma me mi mo na ne no pa pe po ra re ri ro sa se so ta te ti to va ve vi".split()
_COMMON = "the a to and of is in it my for on with not was have that this but be as you can at so if from when your we has will no an i do what how".split()
_INTENTS = [f"{what}_{how}" for what in ("card", "transfer", "refund", "login", "invoice", "delivery", "account", "limit") for how in ("missing", "late", "declined", "changed", "twice", "question")]  # fmt: skip
_SYSTEM = (
    "You sort tickets for a payment service. Answer with one JSON object that has the keys intent, urgent and reply, "
    "and nothing else. Never promise a date, never ask for a password, and keep the reply under sixty words."
)
_TEMPLATE = (
    "Hello, I am writing about order {order} that I placed on your site with the card ending in {card}. According to the "
    "page it should have been here by {day} and the amount was taken twice, {amount} euro each time. I have already "
    "spoken to two of your colleagues and both said that somebody would come back to me, which did not happen. Please "
    "tell me what you are going to do, and by when. Details: {details}"
)
_PRIVATE = ("Write to {name}.{surname}@example.org please.", "Call me on +49 30 {number} after six.", "My card is 4111 1111 1111 1111.", "The account is DE89 3704 0044 0532 0130 00.")  # fmt: skip


@dataclass(frozen=True)
class Ticket:
    """What a row is made of."""

    text: str
    intent: str
    urgent: bool
    reply: str

    def as_row(self) -> JsonObject:
        """Return the ticket as a chat."""
        answer = json.dumps({"intent": self.intent, "urgent": self.urgent, "reply": self.reply})
        turns = (("system", _SYSTEM), ("user", self.text), ("assistant", answer))
        return {"messages": [{"role": role, "content": content} for role, content in turns]}


class Writer:
    """Makes one ticket after another."""

    def __init__(self, seed: int) -> None:
        self.planted = Counter[str]()
        self._rng = generator("bench rows", seed)
        self._words = _vocabulary()
        # What a ticket is about shows in its words, or a check of labels would doubt every one of them.
        self._words_of = [self._words[place :: -len(_INTENTS)][:30] for place in range(-1, -len(_INTENTS) - 1, -1)]
        self._recent: list[Ticket] = []

    def tickets(self) -> Iterator[Ticket]:
        """Yield tickets without end."""
        while True:
            for kind in self._rng.choice(len(KINDS), size=_REMEMBERED, p=SHARES).tolist():
                ticket = self._ticket(KINDS[kind] if self._recent else "plain")
                place = int(self._rng.integers(_REMEMBERED))
                self._recent[place : place + 1] = [ticket]
                yield ticket

    def _ticket(self, kind: str) -> Ticket:
        self.planted[kind] += 1
        old = self._recent[int(self._rng.integers(len(self._recent)))] if self._recent else None
        match kind:
            case "duplicate" if old:
                return old
            case "near_duplicate" if old:
                return replace(old, text=self._edited(old.text))
            case "contradiction" if old:
                return replace(old, intent=_INTENTS[(_INTENTS.index(old.intent) + 1) % len(_INTENTS)])
        text = self._filled() if kind == "template" else self._prose(85)
        if kind == "private":
            name, surname, number = self._draw(1)[0], self._draw(1)[0], int(self._rng.integers(1e6, 1e7))
            pattern = _PRIVATE[int(self._rng.integers(len(_PRIVATE)))]
            text = f"{text} {pattern.format(name=name, surname=surname, number=number)}"
        intent = int(self._rng.integers(len(_INTENTS)))
        text = f"{text} {' '.join(self._rng.choice(self._words_of[intent], size=5).tolist())}"
        return Ticket(text, _INTENTS[intent], bool(self._rng.random() < 0.2), self._prose(30))

    def _filled(self) -> str:
        order, card, day, amount = self._rng.integers((10**8, 1000, 1, 10), (10**9, 10_000, 29, 500)).tolist()
        return _TEMPLATE.format(order=order, card=card, day=f"May {day}", amount=amount, details=self._prose(25))

    def _edited(self, text: str) -> str:
        words = text.split()
        for place in self._rng.integers(len(words), size=2).tolist():
            words[place] = self._draw(1)[0]
        return " ".join(words)

    def _prose(self, num_words: int) -> str:
        words = self._draw(int(num_words * (0.7 + 0.6 * self._rng.random())))
        sentences = [words[start : start + 12] for start in range(0, len(words), 12)]
        return " ".join(" ".join(sentence).capitalize() + "." for sentence in sentences)

    def _draw(self, count: int) -> list[str]:
        # A rank of u^-1 spreads like words do (Zipf): few are everywhere, most are rare.
        ranks = (len(self._words) ** self._rng.random(count)).astype(np.int64) - 1
        return [self._words[rank] for rank in ranks.tolist()]


def rows(count: int, seed: int = 0) -> Iterator[JsonObject]:
    """Yield `count` rows."""
    return (ticket.as_row() for ticket in islice(Writer(seed).tickets(), count))


def write(path: Path, count: int, seed: int = 0) -> Counter[str]:
    """Write `count` rows as JSON lines; return how many of each kind were planted."""
    writer = Writer(seed)
    with path.open("w", encoding="utf-8") as stream:
        for ticket in islice(writer.tickets(), count):
            stream.write(json.dumps(ticket.as_row()) + "\n")
    return writer.planted


def _vocabulary() -> list[str]:
    rng = generator("bench words")
    made = ("".join(rng.choice(_SYLLABLES, size=int(rng.integers(2, 5))).tolist()) for _ in range(_WORDS))
    return list(dict.fromkeys([*_COMMON, *made]))


def main() -> None:
    """Write the rows that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    planted = write(wanted.path, wanted.count, wanted.seed)
    size = wanted.path.stat().st_size
    print(f"{wanted.count:,} rows, {size / wanted.count:,.0f} bytes each; {dict(planted)}")


if __name__ == "__main__":
    main()
