"""An answer as text while it is decoded, never half a character, and never a piece of what ends it.

A character of several bytes can take several tokens. A piece is held back while its text ends in the
replacement character, and decoded together with the tokens before it, because some tokenizers write a
token differently at the beginning of a text. Text that may become a stop string is held back too.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

_HALF = "\ufffd"


class TextStream:
    """Turns tokens into pieces of text; the pieces together are `decode` of all tokens."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._seen: list[int] = []
        self._start = self._shown = 0

    def push(self, token: int) -> str:
        """Return the text that one more token makes certain, often nothing."""
        self._seen.append(token)
        before, now = self._decode(self._seen[self._start : self._shown]), self._decode(self._seen[self._start :])
        if len(now) <= len(before) or now.endswith(_HALF):
            return ""
        self._start, self._shown = self._shown, len(self._seen)
        return now[len(before) :]

    def rest(self) -> str:
        """Return what is left when no token comes any more."""
        before = self._decode(self._seen[self._start : self._shown])
        return self._decode(self._seen[self._start :])[len(before) :]


class StopStrings:
    """Lets text through up to the first of some strings, and holds back what may be the beginning of one."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Return the text that certainly stands before any stop string; nothing once one has come."""
        if self.stopped:
            return ""
        held = self._held + text
        places = [place for place in (held.find(string) for string in self._strings) if place >= 0]
        if places:
            self.stopped, self._held = True, ""
            return held[: min(places)]
        sure = len(held) - max((_overlap(held, string) for string in self._strings), default=0)
        self._held = held[sure:]
        return held[:sure]

    def rest(self) -> str:
        """Return what was held back when no text comes any more."""
        return self._held


def stream(tokens: Iterable[int], decode: Callable[[Sequence[int]], str]) -> Iterator[str]:
    """Yield the text of tokens piece by piece as they come; the pieces together are `decode` of all."""
    text = TextStream(decode)
    for token in tokens:
        if piece := text.push(token):
            yield piece
    if rest := text.rest():
        yield rest


def _overlap(text: str, string: str) -> int:
    """Count the characters at the end of `text` with which `string` begins, short of the whole string."""
    longest = min(len(text), len(string) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(string[:size])), 0)
