"""Keys, tokens and passwords by their shapes.

A shape is a prefix that its issuer chose so that leaks can be found, or a place where only a secret
stands (the password of a URL, the value of `password = ...`). Random letters without either are not
claimed: they may be a hash, an id or a word of another language.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Shape(NamedTuple):
    """One kind of secret. `marks` are texts of which one must occur before the pattern, which is slow, is tried.

    Where the pattern has a group `value`, that is the secret, else the whole match.
    """

    kind: str
    marks: tuple[str, ...]
    pattern: re.Pattern[str]


def find_secrets(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and kind (`private-key`, `api-key` or `password`) of every secret."""
    marks = _MARKS if max(map(len, text.split()), default=0) >= _SHORTEST_KEY else _MARKS_OF_SHORT
    for kind, _, pattern in dict.fromkeys([shape for mark, shape in marks if mark in text]):
        for match in pattern.finditer(text):
            start, end = match.span("value") if "value" in pattern.groupindex else match.span()
            if kind != "password" or _is_secret(text[start:end]):
                yield start, end, kind
    if _IN_HEX.search(text):
        yield from ((*match.span(), "api-key") for match in _HEX_KEY.finditer(text))


def _is_secret(value: str) -> bool:
    """Tell a password from the words that documents put in its place, and from code that fetches one."""
    letters = "".join(filter(str.isalnum, value.lower()))
    if letters in _STAND_INS or letters.startswith(("your", "example")) or set(letters) <= {"x"}:
        return False
    return any(character.isdigit() for character in value) or not value.isalnum()


def _key(prefix: str, rest: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9]){prefix}{rest}(?![A-Za-z0-9])")


_STAND_INS = frozenset("password passwd pass pwd secret changeme mypassword apikey myapikey token mytoken".split())
SHAPES: tuple[Shape, ...] = (
    Shape(
        "private-key",
        ("PRIVATE KEY",),
        re.compile(
            r"-----BEGIN (?P<type>[A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?)-----(?:(?!-----)[\s\S]){0,8192}(?:-----END (?P=type)-----)?"
        ),
    ),
    Shape(
        "api-key",
        ("sk-", "sk_", "rk_"),
        _key("(?:sk|rk)[-_]", r"(?:[a-z]{2,8}[-_])*(?:live[-_]|test[-_])?[A-Za-z0-9_-]{20,200}"),
    ),
    Shape("api-key", ("AKIA", "ASIA", "ABIA", "ACCA"), _key("A(?:KIA|SIA|BIA|CCA)", "[A-Z0-9]{16}")),
    Shape("api-key", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), _key("gh[pousr]_", "[A-Za-z0-9]{36,251}")),
    Shape("api-key", ("github_pat_",), _key("github_pat_", "[A-Za-z0-9_]{36,251}")),
    Shape("api-key", ("glpat-",), _key("glpat-", "[A-Za-z0-9_-]{20,64}")),
    Shape("api-key", ("xox", "xapp-"), _key("(?:xox[abeoprs]|xapp)-", "[A-Za-z0-9-]{16,250}")),
    Shape("api-key", ("hooks.slack.com",), re.compile(r"hooks\.slack\.com/services/(?P<value>[A-Za-z0-9/]{20,100})")),
    Shape("api-key", ("AIza",), _key("AIza", "[A-Za-z0-9_-]{35}")),
    Shape("api-key", ("ya29.",), _key(r"ya29\.", "[A-Za-z0-9_-]{20,400}")),
    Shape("api-key", ("hf_",), _key("hf_", "[A-Za-z0-9]{30,50}")),
    Shape("api-key", ("npm_",), _key("npm_", "[A-Za-z0-9]{36}")),
    Shape("api-key", ("pypi-AgE",), _key("pypi-AgE", "[A-Za-z0-9_-]{50,500}")),
    Shape("api-key", ("SG.",), _key(r"SG\.", r"[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}")),
    Shape("api-key", ("eyJ",), _key("eyJ", r"[A-Za-z0-9_-]{6,2000}\.[A-Za-z0-9_-]{6,8000}\.[A-Za-z0-9_-]{0,1000}")),
    Shape("api-key", (":AA",), _key(r"\d{8,10}:AA", "[A-Za-z0-9_-]{33}")),
    Shape("api-key", ("AccountKey=",), re.compile("AccountKey=(?P<value>[A-Za-z0-9+/=]{40,100})")),
    Shape(
        "password",
        ("://",),
        re.compile(r"[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>]{1,80}:(?P<value>[^\s/@\"'<>{}$]{3,100})@"),
    ),
    Shape(
        "password",
        ("assw", "ASSW", "pwd", "PWD", "secret", "SECRET", "key", "KEY", "Key", "token", "TOKEN"),
        re.compile(
            r"(?i)(?<![a-z])(?:password|passwd|pwd|secret(?:[_-]?key)?|api[_-]?key|(?:access|auth)[_-]?token)[\"']?"
            r"(?: ?= ?|: ?)[\"']?(?P<value>[^\s\"',;(){}\[\]<>$|]{8,100})(?![\w(])"
        ),
    ),
)
# Most texts hold no word as long as a key, and then only passwords and private keys are looked for.
_SHORTEST_KEY = 16
_MARKS = [(mark, shape) for shape in SHAPES for mark in shape.marks]
_MARKS_OF_SHORT = [(mark, shape) for mark, shape in _MARKS if shape.kind != "api-key" and mark != "://"]
# A word and 128 bits or more in groups of eight hex digits; a digest says which it is in its prefix.
_IN_HEX = re.compile("[-_][0-9a-f]{8}[-0-9a-f]")
_HEX_KEY = re.compile(
    r"(?<![\w-])(?!sha|md5|crc|commit|urn|uuid)[A-Za-z]{2,10}[-_][0-9a-f]{8}(?:-?[0-9a-f]{8}){3,7}(?![\w-])"
)
