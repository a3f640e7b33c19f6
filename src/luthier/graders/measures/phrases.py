"""Does a text say a phrase? Compared as a reader would: spacing never matters, case and word boundaries as asked."""

import unicodedata


class Phrases:
    """A text in which phrases are looked for."""

    def __init__(self, text: str, *, ignore_case: bool = True, whole_words: bool = True) -> None:
        self._ignore_case, self._whole_words = ignore_case, whole_words
        self._text = self._plain(text)

    def have(self, phrase: str) -> bool:
        """Tell whether the phrase occurs; an empty phrase occurs in every text."""
        wanted = self._plain(phrase)
        start = self._text.find(wanted)
        while start >= 0:
            if not self._whole_words or not wanted or self._stands_alone(start, start + len(wanted)):
                return True
            start = self._text.find(wanted, start + 1)
        return False

    def _plain(self, text: str) -> str:
        spaced = " ".join(unicodedata.normalize("NFC", text).split())
        return spaced.casefold() if self._ignore_case else spaced

    def _stands_alone(self, start: int, end: int) -> bool:
        return not self._joined(start) and not self._joined(end)

    def _joined(self, place: int) -> bool:
        """Tell whether a word goes on across a place."""
        return 0 < place < len(self._text) and self._text[place - 1].isalnum() and self._text[place].isalnum()
