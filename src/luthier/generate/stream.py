"""An answer as text while it is decoded, never half a character.

A character of several bytes can take several tokens. A piece is held back while its text ends in the
replacement character, and decoded together with the tokens before it, because some tokenizers write a
token differently at the beginning of a text.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

_HALF = "\ufffd"


def stream(tokens: Iterable[int], decode: Callable[[Sequence[int]], str]) -> Iterator[str]:
    """Yield the text of tokens piece by piece as they come; the pieces together are `decode` of all."""
    seen: list[int] = []
    start = shown = 0
    for token in tokens:
        seen.append(token)
        before, now = decode(seen[start:shown]), decode(seen[start:])
        if len(now) > len(before) and not now.endswith(_HALF):
            yield now[len(before) :]
            start, shown = shown, len(seen)
    rest = decode(seen[start:])[len(decode(seen[start:shown])) :]
    if rest:
        yield rest
