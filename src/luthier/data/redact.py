"""Private data to placeholders that stay the same: `[EMAIL_482113]` is one address wherever it stands.

The number is a keyed hash, so it does not depend on the order of the rows, nor on the run. It has six
digits on purpose: a phone number shares its placeholder with thousands of others, so that trying all
numbers does not lead back to it. Two values of one data set therefore share a placeholder now and
then (one chance in a million for each pair).
"""

import hashlib
import re
from collections.abc import Collection
from typing import NamedTuple

from luthier.core.hashing import derived_seed
from luthier.data.private_spans import private_spans

_NAMES = {
    "private-key": "PRIVATE_KEY",
    "api-key": "API_KEY",
    "password": "PASSWORD",
    "iban": "IBAN",
    "card": "CARD",
    "national-id": "NATIONAL_ID",
    "social-security-number": "NATIONAL_ID",
    "email": "EMAIL",
    "email-in-words": "EMAIL",
    "phone": "PHONE",
    "ip-address": "IP_ADDRESS",
}
_NUMBERS = 1_000_000


class Redactor(NamedTuple):
    """Puts placeholders in; `key` makes their numbers other people's riddle."""

    key: bytes

    def redacted(self, text: str, kinds: Collection[str]) -> str:
        """Return the text with every span of these kinds replaced; a bare number of JSON becomes a string."""
        out: list[str] = []
        end = 0
        for span in private_spans(text):
            if span.kind not in kinds:
                continue
            placeholder = self.placeholder(span.kind, text[span.start : span.end])
            quoted = _BARE_BEFORE.search(text[end : span.start]) and _BARE_AFTER.match(text, span.end)
            out += (text[end : span.start], f'"{placeholder}"' if quoted else placeholder)
            end = span.end
        return "".join((*out, text[end:])) if out else text

    def placeholder(self, kind: str, value: str) -> str:
        """Return the placeholder of a value; how it is spaced, hyphenated or capitalized does not count."""
        plain = value if kind in _EXACT else re.sub(r"[\W_]", "", value.casefold())
        digest = hashlib.blake2b(
            f"{_NAMES[kind]}:{plain}".encode("utf-8", "surrogatepass"), digest_size=8, key=self.key
        )
        return f"[{_NAMES[kind]}_{int.from_bytes(digest.digest(), 'big') % _NUMBERS:06d}]"


def redactor(seed: int) -> Redactor:
    """Return the redactor of a seed: the same seed, the same placeholders."""
    return Redactor(derived_seed(seed, "placeholders").to_bytes(8, "big"))


_EXACT = frozenset(["private-key", "api-key", "password", "email"])
_BARE_BEFORE = re.compile(r'"\s*:\s*$')
_BARE_AFTER = re.compile(r"\s*[,}\]]")
