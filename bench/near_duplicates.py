"""Near-duplicates found, missed and found wrongly, by band of true likeness, and in how many seconds, beside others.

    pip install datasketch rensa                first, to have their rows in the table
    python bench/near_duplicates.py             10,000 pairs of known Jaccard similarity, 0.5 to 0.95
    python bench/near_duplicates.py --page      only the tables of docs/scale.md

All of them get the same word trigrams, 128 permutations and the same task: every pair of at least 0.8. The others
return candidates, so theirs are verified by the true similarity as well; without that their precision would be that
of the last column. Bands are as wide as near 99 % recall at 0.8 asks for, or the next that the library allows.

`leaks` is ours at another task on the same pairs: one text of each is a training row, the other stands in a test file, and
what counts is that the training row is taken out and reported. The result is bench/results/near-duplicates.json; the
candidates of the others are what they return before they are verified.
"""

import argparse
import hashlib
import importlib.util
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pages import table, with_block

from luthier.config.settings import SplitSettings
from luthier.core.hardware import processor, usable_cores
from luthier.core.rundir import write_json
from luthier.core.types import JsonObject, Row, Text
from luthier.data.checking import context_of
from luthier.data.checks.leaks import Check
from luthier.data.cluster import link
from luthier.data.deal import Origin
from luthier.data.examine import examine
from luthier.data.minhash import band_width
from luthier.data.split import row_key, split

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "bench" / "results" / "near-duplicates.json"
PAGE = ROOT / "docs" / "scale.md"
THRESHOLD = 0.8
PERMUTATIONS = 128
BANDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
PEERS = ("datasketch", "rensa")
NEW_WORDS = "new words"
TEXTS = {NEW_WORDS: 0, "30,000 words": 30_000}
Pairs = set[tuple[int, int]]
ORIGINS: tuple[Origin, ...] = ("data", "test")


def texts_of(num_pairs: int, seed: int, num_words_known: int = 0) -> list[str]:
    """Return texts, two beside each other, whose trigrams agree by a share drawn evenly from 0.5 to 0.95.

    Their words stand nowhere else, or come from so many as often as words do (Zipf).
    """
    rng = random.Random(seed)
    vocabulary = _babble(rng, num_words_known, [])
    texts = []
    for _ in range(num_pairs):
        num_words, likeness = rng.randint(60, 110), rng.uniform(0.5, 0.95)
        other = round((num_words - 2) * (1 - likeness) / (1 + likeness))
        words = _babble(rng, num_words, vocabulary)
        texts += [" ".join(words), " ".join(words[: num_words - other] + _babble(rng, other, vocabulary))]
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
    """The way of text-dedup and of most scripts: numpy a row, and a dictionary a band."""
    rng = np.random.default_rng(1)
    factors, offsets = rng.integers(1, 1 << 61, (2, PERMUTATIONS), dtype=np.uint64)
    width = band_width(THRESHOLD)
    sets, candidates = [trigrams(text) for text in texts], Pairs()
    tables: list[defaultdict[bytes, list[int]]] = [defaultdict(list) for _ in range(PERMUTATIONS // width)]
    for number, words in enumerate(sets):
        hashes = np.array([_hash(one) for one in words], dtype=np.uint64)
        signature = ((hashes[:, None] * factors + offsets) >> np.uint64(32)).min(axis=0)
        for band, buckets in enumerate(tables):
            bucket = buckets[signature[band * width : (band + 1) * width].tobytes()]
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
        "finder": find.__name__, "version": version(find.__name__) if find.__name__ in PEERS else None,
        "cpu_seconds": round(seconds, 2), "rows_a_cpu_second": round(len(texts) / seconds),
        "recall": round(len(found & wanted) / len(wanted), 4), "precision": round(len(found & wanted) / max(1, len(found)), 4),
        "candidates": len(candidates), "precision_of_candidates": round(len(candidates & wanted) / max(1, len(candidates)), 4),
        "found_by_likeness": bands,
    }  # fmt: skip


def with_tables(page: str, found: JsonObject) -> str:
    """Return the page with its tables made from the result."""
    return with_block(with_block(page, "finders", by_finder(found)), "bands", by_band(found))


def by_finder(found: JsonObject) -> str:
    """Say how fast each finder was on texts of either kind, and how much it found of those whose words are new."""
    head = [
        "finder",
        *(f"rows a CPU second, {kind}" for kind in found["texts"]),
        "recall",
        "precision",
        "candidates",
        "of them right",
    ]
    rows = [head]
    for one, *others in zip(*found["texts"].values()):
        speeds = [f"{each['rows_a_cpu_second']:,}" for each in (one, *others)]
        recall = f"{min(each['recall'] for each in (one, *others)):.4f}"
        rows.append(
            [
                _named(one),
                *speeds,
                recall,
                f"{one['precision']:.4f}",
                f"{one['candidates']:,}",
                f"{one['precision_of_candidates']:.4f}",
            ]
        )
    return table(rows)


def by_band(found: JsonObject) -> str:
    """Say how many pairs of each band of true likeness each finder reported, of the texts whose words are new."""
    finders = found["texts"][NEW_WORDS]
    bands = list(finders[0]["found_by_likeness"])
    head = ["true likeness", *map(_named, finders)]
    ends = [*bands[1:], "1"]
    return table([head, *([f"{low} to {high}", *(one["found_by_likeness"][low] for one in finders)] for low, high in zip(bands, ends))])  # fmt: skip


def _named(one: JsonObject) -> str:
    words = {
        "luthier": "ours",
        "leaks": "ours, across the sides of the split",
        "plain_numpy": "numpy, as text-dedup does",
    }
    return words.get(one["finder"], f"{one['finder']} {one['version']}")


def _verified(candidates: Iterable[tuple[int, int]], sets: list[set[tuple[str, ...]]]) -> Pairs:
    return {(left, right) for left, right in candidates if likeness(sets[left], sets[right]) >= THRESHOLD}


def _babble(rng: random.Random, count: int, vocabulary: list[str]) -> list[str]:
    if vocabulary:  # a rank of u^-1 is spread like those of words
        return [vocabulary[int(len(vocabulary) ** rng.random()) - 1] for _ in range(count)]
    return ["".join(rng.choices("abcdefghijklmno", k=rng.randint(3, 8))) for _ in range(count)]


def _hash(words: tuple[str, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest(), "big")


def main() -> None:
    """Measure each finder that is installed, all in this process; print one JSON document for each and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--page", action="store_true", help="only write the page from the result that is kept")
    wanted = parser.parse_args()
    if not wanted.page:
        found: JsonObject = {
            "processor": processor(), "cores": usable_cores(), "pairs": wanted.pairs, "threshold": THRESHOLD, "texts": {},
        }  # fmt: skip
        for kind, num_words in TEXTS.items():
            texts = texts_of(wanted.pairs, 11, num_words)
            found["texts"][kind] = []
            for find in (luthier, leaks, plain_numpy, datasketch, rensa):
                if find.__name__ not in PEERS or importlib.util.find_spec(find.__name__):
                    found["texts"][kind].append(measured(find, texts))
                    print(kind, json.dumps(found["texts"][kind][-1]), flush=True)
        write_json(RESULT, found)
    kept: JsonObject = json.loads(RESULT.read_text(encoding="utf-8"))
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")


if __name__ == "__main__":
    main()
