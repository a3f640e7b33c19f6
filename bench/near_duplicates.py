"""Near-duplicates found, missed and found wrongly, by band of true likeness, and in how many seconds, beside others.

    python bench/near_duplicates.py                    10,000 pairs of known Jaccard similarity, 0.5 to 0.95
    pip install datasketch rensa                       first, to have their rows in the table

All of them get the same word trigrams, 128 permutations and the same task: every pair of at least 0.8. The others
return candidates, so theirs are verified by the true similarity as well; without that their precision would be that
of the last column. Bands are as wide as near 99 % recall at 0.8 asks for, or the next that the library allows.

`leaks` is ours at another task on the same pairs: one text of each is a training row, the other stands in a test file, and
what counts is that the training row is taken out and reported.
"""

import argparse
import hashlib
import importlib.util
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from luthier.config.settings import SplitSettings
from luthier.core.hardware import processor, usable_cores
from luthier.core.types import JsonObject, Row, Text
from luthier.data.checking import context_of
from luthier.data.checks.leaks import Check
from luthier.data.cluster import link
from luthier.data.deal import Origin
from luthier.data.examine import examine
from luthier.data.minhash import band_width
from luthier.data.split import row_key, split

THRESHOLD = 0.8
PERMUTATIONS = 128
BANDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
Pairs = set[tuple[int, int]]
ORIGINS: tuple[Origin, ...] = ("data", "test")


def texts_of(num_pairs: int, seed: int) -> list[str]:
    """Return texts, two beside each other, whose trigrams agree by a share drawn evenly from 0.5 to 0.95."""
    rng = random.Random(seed)
    texts = []
    for _ in range(num_pairs):
        num_words, likeness = rng.randint(60, 110), rng.uniform(0.5, 0.95)
        other = round((num_words - 2) * (1 - likeness) / (1 + likeness))
        words = _babble(rng, num_words)
        texts += [" ".join(words), " ".join(words[: num_words - other] + _babble(rng, other))]
    return texts


def luthier(texts: list[str]) -> tuple[Pairs, Pairs]:
    """Ours: verified already."""
    links = link(texts, THRESHOLD)
    place = {text: number for number, text in enumerate(texts)}
    number = [place[text] for text in links.questions]
    found = {(number[left], number[right]) for left, right in zip(links.left_P.tolist(), links.right_P.tolist())}
    return found, found


def leaks(texts: list[str]) -> tuple[Pairs, Pairs]:
    """Ours across the sides: the split takes training rows out that resemble a test row, the check names both."""
    rows = [Row(str(number), "", number, number, Text(text)) for number, text in enumerate(texts)]
    sides = rows[::2], rows[1::2]
    keys = [row_key(row, origin) for side, origin in zip(sides, ORIGINS) for row in side]
    assignment = split(keys, SplitSettings(near_duplicate=THRESHOLD), 0, has_test=True, has_validation=False)
    out = {row.id for row, part in zip(sides[0], assignment.part) if part is None}
    check = Check(context_of([*sides[0], *sides[1]], assignment=assignment))
    findings = examine({"leaks": check}, [*sides[0], *sides[1]])["leaks"]
    named = [finding.rows for finding in findings if finding.kind == "near" and out & {*finding.rows}]
    found = {(min(pair), max(pair)) for pair in ((int(a), int(b)) for a, b in named)}
    return found, found


def datasketch(texts: list[str]) -> tuple[Pairs, Pairs]:
    """The usual way with datasketch: one MinHash and one query a row."""
    from datasketch import MinHash, MinHashLSH  # type: ignore[import-not-found]

    width = band_width(THRESHOLD)
    index = MinHashLSH(num_perm=PERMUTATIONS, params=(PERMUTATIONS // width, width))
    sets, candidates = [trigrams(text) for text in texts], Pairs()
    for number, words in enumerate(sets):
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch([" ".join(one).encode() for one in words])
        candidates |= {(earlier, number) for earlier in index.query(signature)}
        index.insert(number, signature)
    return _verified(candidates, sets), candidates


def rensa(texts: list[str]) -> tuple[Pairs, Pairs]:
    """The usual way with rensa: all signatures at once, in Rust."""
    from rensa import RMinHash, RMinHashLSH  # type: ignore[import-not-found]

    sets = [trigrams(text) for text in texts]
    signatures = RMinHash.from_token_sets([[" ".join(one) for one in words] for words in sets], PERMUTATIONS, 1)
    index = RMinHashLSH(THRESHOLD, PERMUTATIONS, 32)  # bands of 4: it divides the permutations evenly
    index.insert_many(signatures)
    near = index.query_all(signatures)
    candidates = {
        (min(pair), max(pair))
        for left, found in enumerate(near)
        for right in found
        if (pair := (left, right)) and left != right
    }
    return _verified(candidates, sets), candidates


def plain_numpy(texts: list[str]) -> tuple[Pairs, Pairs]:
    """What de-duplication scripts do: numpy a row, and a dictionary a band."""
    rng = np.random.default_rng(1)
    factors, offsets = rng.integers(1, 1 << 61, (2, PERMUTATIONS), dtype=np.uint64)
    width = band_width(THRESHOLD)
    sets, candidates = [trigrams(text) for text in texts], Pairs()
    tables: list[defaultdict[bytes, list[int]]] = [defaultdict(list) for _ in range(PERMUTATIONS // width)]
    for number, words in enumerate(sets):
        hashes = np.array([_hash(one) for one in words], dtype=np.uint64)
        signature = ((hashes[:, None] * factors + offsets) >> np.uint64(32)).min(axis=0)
        for band, table in enumerate(tables):
            bucket = table[signature[band * width : (band + 1) * width].tobytes()]
            candidates |= {(earlier, number) for earlier in bucket}
            bucket.append(number)
    return _verified(candidates, sets), candidates


def trigrams(text: str) -> set[tuple[str, ...]]:
    """Return the word trigrams of a text."""
    words = text.split()
    return set(zip(words, words[1:], words[2:]))


def likeness(left: set[tuple[str, ...]], right: set[tuple[str, ...]]) -> float:
    """Return the true Jaccard similarity."""
    return len(left & right) / len(left | right)


def measured(find: Callable[[list[str]], tuple[Pairs, Pairs]], texts: list[str]) -> JsonObject:
    """Run a finder; return what it found by band of true likeness, and its speed."""
    started = time.process_time()
    found, candidates = find(texts)
    seconds = time.process_time() - started
    truth = {
        (place, place + 1): likeness(trigrams(texts[place]), trigrams(texts[place + 1]))
        for place in range(0, len(texts), 2)
    }
    bands: JsonObject = {}
    for low, high in zip(BANDS, (*BANDS[1:], 1.01)):
        inside = {pair for pair, value in truth.items() if low <= value < high}
        bands[f"{low:.2f}"] = f"{len(inside & found):,} of {len(inside):,}"
    wanted = {pair for pair, value in truth.items() if value >= THRESHOLD}
    return {
        "finder": find.__name__, "rows_a_cpu_second": round(len(texts) / seconds), "recall": round(len(found & wanted) / len(wanted), 4),
        "precision": round(len(found & wanted) / max(1, len(found)), 4), "precision_unverified": round(len(candidates & wanted) / max(1, len(candidates)), 4),
        "found_by_likeness": bands,
    }  # fmt: skip


def _verified(candidates: Iterable[tuple[int, int]], sets: list[set[tuple[str, ...]]]) -> Pairs:
    return {(left, right) for left, right in candidates if likeness(sets[left], sets[right]) >= THRESHOLD}


def _babble(rng: random.Random, count: int) -> list[str]:
    return ["".join(rng.choices("abcdefghijklmno", k=rng.randint(3, 8))) for _ in range(count)]


def _hash(words: tuple[str, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest(), "big")


def main() -> None:
    """Print one JSON document for each finder that is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000)
    wanted = parser.parse_args()
    print(json.dumps({"processor": processor(), "cores": usable_cores(), "pairs": wanted.pairs}))
    texts = texts_of(wanted.pairs, 11)
    for find in (luthier, leaks, plain_numpy, datasketch, rensa):
        if find in (luthier, leaks, plain_numpy) or importlib.util.find_spec(find.__name__):
            print(json.dumps(measured(find, texts)), flush=True)


if __name__ == "__main__":
    main()
