"""Write tickets.jsonl: messages to a bicycle-hire shop and the fields that a clerk would note from each.

Made up from the templates and word lists below, with the flaws of real exports left in: rows sent
twice, rows that contradict each other, lines that broke on the way. Equal seeds write equal bytes.

    python examples/demo/make_tickets.py examples/demo/tickets.jsonl
"""

import json
import random
import sys
from pathlib import Path

ROWS = 1200
SEED = 7

ITEMS = (
    "tandem", "city bike", "cargo bike", "mountain bike", "e-bike", "child seat", "trailer", "kick scooter", "folding bike",
    "racing bike", "tricycle", "step-through bike", "gravel bike", "handbike", "electric trike", "touring bike",
    "balance bike", "fat bike", "dog trailer", "recumbent",
)  # fmt: skip
COLOURS = ("", "", "", "red ", "blue ", "green ", "black ", "small ", "large ", "yellow ", "silver ", "medium ")
DAYS = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "tomorrow", "today", "next weekend",
    "the 3rd of May", "the 14th", "June 21st", "next Tuesday", "Easter Monday", "the 30th of August", "this Friday",
)  # fmt: skip
TIMES = (
    "", "", " at nine", " at 10:30", " at noon", " morning", " afternoon", " at half past two", " evening", " at 4 pm",
    " before lunch", " around six", " at 8:15", " at quarter past three",
)  # fmt: skip
PLACES = (
    "the station", "Mill Street", "the harbour", "the old bridge", "your shop on Castle Road", "the campsite", "Hotel Linde",
    "the ferry pier", "Park Lane", "the lake", "the museum", "Church Square", "the north gate", "Dock 5", "the youth hostel",
)  # fmt: skip
NAMES = (
    "Hannah", "Mr Okafor", "Lena B.", "Tomasz", "Ingrid Solberg", "Dev", "the Marchetti family", "Yusuf", "Mrs Peel", "Carla",
    "Jonas Weber", "Aiko", "Sam", "Beatriz", "Piotr Nowak", "Ruth", "Fatima", "Old Henry", "Chloe Martin", "Bram",
)  # fmt: skip

# Every kind of message, and the ways in which people write it. The fields in braces are what the clerk notes.
MESSAGES = {
    "booking": (
        "Could I hire a {item} for {when}? I would pick it up at {place}.",
        "We need a {item} {when}, pick-up at {place} if possible.",
        "hi, is a {item} still free {when}? we are staying near {place}",
        "Please put aside one {item} for {when}. I will come to {place}.",
        "I'd like to rent a {item}. {when} would suit us, from {place}.",
        "Do you bring a {item} to {place}? We would want it {when}.",
    ),
    "change": (
        "Order {order}: can we move it to {when}?",
        "I booked a {item} under {order} but {when} would be better now.",
        "Please change {order} to {when}, same {item}.",
        "about {order} - could you swap it for a {item}? We now come {when}",
        "Is it too late to shift {order}? {when} is the only time we can collect the {item}.",
        "We'd rather collect {order} from {place}, {when} is still fine.",
    ),
    "cancel": (
        "Please cancel {order}, the weather looks awful for {when}.",
        "We can't make it {when}, so forget about {order}.",
        "I have to call off the {item}, number {order}. Sorry!",
        "cancel my {item} please, order {order}, was for {when}",
        "Something came up and we won't need {order} any more.",
        "No need to keep the {item} for us {when}; the order was {order}.",
    ),
    "delay": (
        "We are stuck near {place} and will bring the {item} back {when}.",
        "Running late! {order} will be returned {when} instead.",
        "The {item} ({order}) comes back {when}, we missed the ferry at {place}.",
        "hello, can I keep the {item} until {when}? my order is {order}",
        "Return of {order} delayed to {when}. Is that a problem?",
        "we lost track of time at {place}, you get your {item} {when}",
    ),
    "breakdown": (
        "The {item} broke down at {place}. Order {order}.",
        "flat tyre near {place}!! it is the {item} from {order}",
        "Chain came off the {item} and we are standing at {place}. Can you send somebody?",
        "The brakes of the {item} squeal terribly since {when}, order {order}.",
        "Something is wrong with our {item}, it rattles. We are at {place}, {order}.",
        "The battery of order {order} died at {place} {when}.",
    ),
    "lost": (
        "I think I left my bag on the {item} that I returned {when}.",
        "Somebody took the {item} at {place}, order {order}. What now?",
        "We cannot find the {item} any more. It stood at {place} {when}.",
        "lost the key of the {item} somewhere around {place}, sorry. {order}",
        "Did anyone hand in a wallet {when}? We had order {order}.",
        "The {item} from {order} is gone from {place}.",
    ),
    "billing": (
        "I was charged twice for {order}.",
        "Why does the invoice for {order} list a {item}? We never had one.",
        "The deposit for the {item} from {when} has not come back, order {order}.",
        "Please send me the receipt for {order}, I paid at {place}.",
        "Your bill says two days but {order} was only for {when}.",
        "Can I get a refund for the {item}? It was unusable. {order}, paid {when}.",
    ),
}  # fmt: skip
GREETINGS = ("", "", "", "", "Hello, ", "Good morning! ", "Hi there, ", "Dear team, ", "Hey! ")
ENDINGS = (
    "",
    "",
    "",
    " Thanks!",
    " Thank you, {name}",
    " Best, {name}",
    " {name} here.",
    " Regards, {name}",
    " - {name}",
)
FIELDS = ("item", "when", "place", "order", "name")
BROKEN_LINES = (
    '{"text": "Is the trailer free on Sunday?", "kind": "booking", "fields": {"item": "trai',
    '{"text": "", "kind": "booking", "fields": {}}',
    '{"kind": "cancel", "fields": {"order": "H-2210"}}',
    "2024-05-03 11:20:07 ERROR export interrupted, retrying",
)


def ticket(random_: random.Random) -> dict[str, object]:
    """Draw one message with what a clerk would note: the kind, and the fields that it mentions, as they are written."""
    kind = random_.choice(tuple(MESSAGES))
    message, ending = random_.choice(MESSAGES[kind]), random_.choice(ENDINGS)
    greeting = random_.choice(GREETINGS) if not message[0].islower() else ""
    template = greeting + message + ending
    values = {
        "item": random_.choice(COLOURS) + random_.choice(ITEMS),
        "when": random_.choice(DAYS) + random_.choice(TIMES),
        "place": random_.choice(PLACES),
        "order": f"{random_.choice('HKRT')}-{random_.randrange(1000, 10000)}",
        "name": random_.choice(NAMES),
    }
    fields = {name: values[name] for name in FIELDS if f"{{{name}}}" in template}
    return {"text": template.format(**values), "kind": kind, "fields": fields}


def export(random_: random.Random, num_rows: int) -> list[str]:
    """Return the lines of the file: mostly good rows, and the flaws that an export of a real inbox has."""
    tickets = [ticket(random_) for _ in range(num_rows)]
    lines = [json.dumps(row, ensure_ascii=False) for row in tickets]
    lines += [lines[random_.randrange(num_rows)] for _ in range(num_rows // 40)]  # messages sent twice
    for row in random_.sample(tickets, 5):  # two clerks, two opinions
        lines.append(
            json.dumps({**row, "kind": "change" if row["kind"] != "change" else "booking"}, ensure_ascii=False)
        )
    random_.shuffle(lines)
    for line in BROKEN_LINES:
        lines.insert(random_.randrange(len(lines)), line)
    return lines


if __name__ == "__main__":
    Path(sys.argv[1]).write_text("\n".join(export(random.Random(SEED), ROWS)) + "\n", encoding="utf-8")
