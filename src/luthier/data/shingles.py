"""Texts as sets of shingles, and the Jaccard similarity between them.

Long texts are sets of word trigrams. In short ones a single changed word would break most
trigrams, so they are sets of five-character pieces. Texts of middle length are both, so that a
pair on either side of the line is still compared in one common way.

Suffixes: N sets, S shingles over all sets, P pairs.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, compress, groupby, islice

import numpy as np

_LONG_WORDS = 30
# A text under _LONG_WORDS and one over this differ so much in length that they cannot be alike.
_NO_LONGER_SHORT_WORDS = 60
_CHARACTERS = 5
_WORDS = 3

_FORM_SHARE = 0.9
_FORM_DOUBT = 0.5
FORM_SAMPLE = 1000
_FORM_MIN_TEXTS = 20
_MATTER_MIN_WORDS = 4

Trigram = tuple[str, str, str]
Form = set[Trigram]

_ID_BITS = 31  # fits an int32
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_JACCARD_BATCH = 1 << 13
_TEXTS_A_BATCH = 1000


@dataclass(frozen=True)
class ShingleSets:
    """Sets of shingles, one after another: set i is `ids_S[starts_N[i] : starts_N[i + 1]]`, in rising order.

    `members_N[i]` is the number of the text that set i was made from.
    """

    members_N: np.ndarray
    starts_N: np.ndarray
    ids_S: np.ndarray

    @cached_property
    def sizes_N(self) -> np.ndarray:
        """The number of shingles in each set."""
        return np.diff(self.starts_N)

    def jaccard(self, left_P: np.ndarray, right_P: np.ndarray) -> np.ndarray:
        """Return |A & B| / |A | B| for pairs of sets."""
        out = np.empty(len(left_P), dtype=np.float64)
        for start in range(0, len(left_P), _JACCARD_BATCH):
            batch = slice(start, start + _JACCARD_BATCH)
            left, right = left_P[batch], right_P[batch]
            common = self._num_common(left, right)
            out[batch] = common / (self.sizes_N[left] + self.sizes_N[right] - common)
        return out

    def taken(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the shingles of the sets at `places`, set after set, and the number of the place that each is from."""
        sizes = self.sizes_N[places]
        owner = np.repeat(np.arange(len(places)), sizes)
        # The first shingle of each set stands where the ones before it end.
        shift = np.repeat(self.starts_N[places] - (np.cumsum(sizes) - sizes), sizes)
        return owner, self.ids_S[np.arange(len(owner)) + shift]

    def followed_by(self, others: "ShingleSets") -> "ShingleSets":
        """Return these sets and then the others. Members keep the numbers they have among their own."""
        return ShingleSets(
            np.concatenate([self.members_N, others.members_N]),
            np.concatenate([self.starts_N, others.starts_N[1:] + self.starts_N[-1]]),
            np.concatenate([self.ids_S, others.ids_S]),
        )

    def _num_common(self, left_P: np.ndarray, right_P: np.ndarray) -> np.ndarray:
        keys = [owner << _ID_BITS | ids for owner, ids in (self.taken(left_P), self.taken(right_P))]
        # Two rising runs: a stable sort merges them in one pass.
        both = np.sort(np.concatenate(keys), kind="stable")
        twice = both[1:][both[1:] == both[:-1]] >> _ID_BITS
        return np.bincount(twice, minlength=len(left_P))


def shingle_sets(texts: Iterable[str], form: Form | None = None) -> tuple[ShingleSets, ShingleSets]:
    """Return the sets of characters of the short texts and the sets of words of the long ones.

    `texts` are normalized, and are not kept. What nearly all of them share is their form, not what they say,
    and is left out first; see `without_form`. Texts that were picked out of others bring the `form` of those.
    """
    short, long = _Shingler(_character_codes, _CHARACTERS), _Shingler(_Words().codes, _WORDS)
    for number, matter in enumerate(without_form(texts, form)):
        num_words = matter.count(" ") + 1
        if num_words < _NO_LONGER_SHORT_WORDS and matter:
            short.add(number, matter)
        if num_words >= _LONG_WORDS:
            long.add(number, matter)
    return short.sets(), long.sets()


def without_form(texts: Iterable[str], form: Form | None = None) -> Iterator[str]:
    """Leave out the words of a form that the texts were filled into, such as an instruction in every prompt.

    The form is every word trigram that stands in at least 90 % of the first 1,000 texts (of 20 or more).
    Without this, rows under one long instruction would all be near-duplicates. A text keeps its form when
    no four words beside each other would be left, since then the form is most of what it says.
    """
    stream = iter(texts)
    head = list(islice(stream, FORM_SAMPLE))
    if form is None:
        form = find_form(head)
    for text in chain(head, stream):
        yield _matter(text, form) if form else text


def find_form(texts: Sequence[str]) -> Form:
    """Return the word trigrams that nearly all of the first `FORM_SAMPLE` texts have; see `without_form`."""
    sample = texts[:FORM_SAMPLE]
    if len(sample) < _FORM_MIN_TEXTS:
        return set()
    counts = Counter(trigram for text in sample for trigram in set(_trigrams(text.split())))
    form = {trigram for trigram, count in counts.items() if count >= _FORM_SHARE * len(sample)}
    doubtful = sum(_FORM_DOUBT * len(sample) <= count < _FORM_SHARE * len(sample) for count in counts.values())
    # A form ends sharply. Copies of one text with a few changes each have pieces of every frequency instead.
    return form if doubtful * 10 <= len(form) else set()


def _trigrams(words: Sequence[str]) -> list[Trigram]:
    return list(zip(words, words[1:], words[2:]))


def _matter(text: str, form: Form) -> str:
    words = text.split()
    kept = [True] * len(words)
    for place, trigram in enumerate(_trigrams(words)):
        if trigram in form:
            kept[place : place + _WORDS] = [False] * _WORDS
    longest = max((sum(run) for _, run in groupby(kept)), default=0)
    return " ".join(compress(words, kept)) if longest >= _MATTER_MIN_WORDS else text


def distinct(values: np.ndarray) -> np.ndarray:
    """Return the different values in rising order; `np.unique` hashes integers, many times slower here."""
    values = np.sort(values)
    return values[np.flatnonzero(np.r_[True, values[1:] != values[:-1]])] if len(values) else values


class _Shingler:
    """Makes sets of one kind from texts in a stream, a thousand at a time to share the cost of a numpy call."""

    def __init__(self, codes: Callable[[str], np.ndarray], width: int) -> None:
        self._codes = codes
        self._width = width
        self._members = array("q")
        self._sizes = array("q")
        self._ids = array("i")
        self._batch: list[np.ndarray] = []

    def add(self, member: int, text: str) -> None:
        """Take the next text."""
        self._members.append(member)
        self._batch.append(self._codes(text))
        if len(self._batch) == _TEXTS_A_BATCH:
            self._flush()

    def sets(self) -> ShingleSets:
        """Return the sets of all texts."""
        if self._batch:
            self._flush()
        starts = np.concatenate([[0], np.cumsum(np.array(self._sizes, dtype=np.int64))])
        return ShingleSets(np.array(self._members, dtype=np.int64), starts, np.frombuffer(self._ids, dtype=np.int32))

    def _flush(self) -> None:
        owner_S, ids_S = _distinct_windows(self._batch, self._width)
        self._ids.frombytes(ids_S.tobytes())
        self._sizes.frombytes(np.bincount(owner_S, minlength=len(self._batch)).tobytes())
        self._batch = []


def _character_codes(text: str) -> np.ndarray:
    # A space on either side makes the first and last word count as much as the others.
    padded = f" {text} ".ljust(_CHARACTERS)
    return np.frombuffer(padded.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


class _Words(dict[str, int]):
    """The numbers of words, remembered from text to text."""

    def __missing__(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = self[word] = int.from_bytes(digest, "big")
        return number

    def codes(self, text: str) -> np.ndarray:
        """Return the numbers of a text's words."""
        words = text.split()
        return np.fromiter(map(self.__getitem__, words), dtype=np.uint64, count=len(words))


def _distinct_windows(codes: Sequence[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Hash every run of `width` codes within a text to a number of 31 bits.

    Return the different numbers of each text in rising order, text after text, and the text of each.
    """
    lengths = np.array([len(one) for one in codes])
    flat = np.concatenate(codes).astype(np.uint64, copy=False)
    count = len(flat) - width + 1
    hashes = np.zeros(count, dtype=np.uint64)
    for offset in range(width):
        hashes ^= flat[offset : offset + count]
        hashes *= _PRIME
        hashes ^= hashes >> np.uint64(32)
    hashes *= _PRIME
    hashes >>= np.uint64(64 - _ID_BITS)
    owner = np.repeat(np.arange(len(codes)), lengths)
    within = owner[:count] == owner[width - 1 :]
    keys = distinct(owner[:count][within] << _ID_BITS | hashes.view(np.int64)[within])
    return keys >> _ID_BITS, (keys & ((1 << _ID_BITS) - 1)).astype(np.int32)
