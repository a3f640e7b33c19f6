"""Private data and secrets: what a model learns, it can be made to say.

E-mail addresses, phone numbers, IP addresses, payment cards, IBANs, national ids of ten countries
(`data/identifiers.py` names them and their proofs), keys and tokens, private keys, passwords. `--fix`
puts placeholders in the place of secrets and of numbers whose check digits prove them; for the rest
it proposes the same.

Where `check.presidio` names a spaCy model, presidio is asked about names of people and places in a sample of the rows.

What it cannot see: else names and postal addresses of people, health and other private facts told in words,
ids and phone numbers written without the shapes that it knows, secrets of unknown shape.
"""

from collections.abc import Iterable
from typing import ClassVar

from luthier.core.types import Content, Finding, Repair, Row
from luthier.data.checking import Context, Dimension
from luthier.data.gathered import Fault, Gathered
from luthier.data.passages import passages, rewritten
from luthier.data.presidio_names import NamesInSample, name_finder
from luthier.data.private_spans import KINDS, PROVEN, SECRETS, private_spans
from luthier.data.redact import redactor

_SAFE = SECRETS | PROVEN


class Check:
    """Find private data by shape and check digits, and put stable placeholders in its place."""

    dimension: ClassVar[Dimension] = "private"
    effect: ClassVar[str] = "the model learns the values by heart and can be made to say them to anybody"
    blind: ClassVar[str] = "names and postal addresses, private facts told in words, secrets of unknown shape"

    def __init__(self, context: Context) -> None:
        self._found = Gathered()
        self._redactor = redactor(context.seed)
        model = context.settings.presidio
        self._names = None if model is None else NamesInSample(name_finder(model), context.row_at)

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Look at every text of the row; a kind counts once a row."""
        if self._names is not None:
            self._names.see(position, row)
        seen: dict[str, str] = {}
        texts = [text for text, _ in passages(row.content)]
        if len(texts) > 1 and not private_spans("\n".join(texts)):
            return ()
        for text in texts:
            for start, end, kind in private_spans(text):
                seen.setdefault(kind, masked(text[start:end]))
        if seen:
            proposed = None if seen.keys() <= _SAFE else self._redacted(row.content, KINDS)
            for kind, example in seen.items():
                safe = kind in _SAFE
                self._found.add(kind, row, example, Repair(row.id, "fix", safe, None if safe else proposed))
        return ()

    def end(self) -> Iterable[Finding]:
        """Report one finding a kind; values are shown masked."""
        yield from self._found.findings("private", _FAULTS)
        if self._names is not None:
            yield from self._names.findings("private")

    def repair(self, content: Content) -> Content:
        """Put placeholders in the place of secrets and proven numbers; the other kinds wait for a person's word."""
        return self._redacted(content, _SAFE)

    def _redacted(self, content: Content, kinds: Iterable[str]) -> Content:
        wanted = frozenset(kinds)
        return rewritten(content, lambda passage: self._redactor.redacted(passage.text, wanted))


def masked(value: str) -> str:
    """Return a private value as a report may show it: its first and last two characters."""
    line = " ".join(value.split())
    return f"{line[:2]}...{line[-2:]}" if len(line) > 6 else "..."


def _fault(severity: str, confidence: float, what: str, fix: str) -> Fault:
    assert severity in ("error", "warning", "info")
    return Fault(severity, confidence, f"hold {what}", fix)


_REDACTED = "--fix puts placeholders in their place, the same for the same value."
_REVOKE = f"Revoke it now, whoever reads this data has it. {_REDACTED}"
_PROPOSED = "--fix proposes placeholders; accept them in decisions.jsonl unless the values are public or made up."
_FAULTS: dict[str, Fault] = {
    "private-key": _fault("error", 1.0, "a private key", _REVOKE),
    "api-key": _fault("error", 0.95, "a key or token", _REVOKE),
    "password": _fault("error", 0.8, "a password in a URL or an assignment", _REVOKE),
    "iban": _fault("error", 0.99, "an IBAN whose check digits are right", _REDACTED),
    "card": _fault("error", 0.97, "a payment card number that passes the Luhn check", _REDACTED),
    "national-id": _fault("error", 0.9, "a national id whose check digits are right", _REDACTED),
    "social-security-number": _fault("warning", 0.85, "a social security or national insurance number", _PROPOSED),
    "email": _fault("warning", 0.97, "an e-mail address", _PROPOSED),
    "email-in-words": _fault("warning", 0.85, "an e-mail address spelled out", _PROPOSED),
    "phone": _fault("warning", 0.85, "a phone number", _PROPOSED),
    "ip-address": _fault("warning", 0.8, "an IP address", _PROPOSED),
}
