"""Are the near-duplicates that the check finds in known sets worth keeping together? A drawn sample, judged row by row.

    python bench/near_duplicates_judged.py ../shared/data/tasks           prints the table
    python bench/near_duplicates_judged.py ../shared/data/tasks --show    also the pairs, with their texts
    python bench/near_duplicates_judged.py ../shared/data/tasks --page    writes it into docs/experiments/near-duplicates.md

Of each set 25 clusters are drawn, and of each cluster one pair that is alike enough by itself. The question that was
judged: if one of the two is trained on and the other asked in the test, does the test ask what the model has seen? The
judgements are in `near_duplicates_judged.jsonl` beside this file; a pair that nobody judged is counted as such.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pages import with_block

from luthier.config.settings import DataSettings
from luthier.core.hashing import generator
from luthier.core.types import Row
from luthier.data.checking import Check, context_of
from luthier.data.checks import duplicates, near_duplicates
from luthier.data.cluster import cluster, link
from luthier.data.examine import examine
from luthier.data.normal import answer, question
from luthier.data.read import read

JUDGED = Path(__file__).with_suffix(".jsonl")
PAGE = Path(__file__).parents[1] / "docs" / "experiments" / "near-duplicates.md"
THRESHOLD, PAIRS, SEED = 0.8, 25, 0
SETS = {
    "snips/train.jsonl": DataSettings(input="text", output=("intent", "slots")),
    "banking77/train.jsonl": DataSettings(input="text", output=("label",)),
    "clinc150/train.jsonl": DataSettings(input="text", output=("label",)),
    "gsm8k/train.jsonl": DataSettings(),
}
NAMES = {"snips": "SNIPS", "banking77": "Banking77", "clinc150": "CLINC150", "gsm8k": "GSM8K"}


@dataclass(frozen=True)
class Pair:
    """Two rows that the check ties together; `likeness` is the Jaccard similarity of their shingles."""

    file: str
    left: Row
    right: Row
    likeness: float

    @property
    def key(self) -> tuple[str, int, int]:
        """What the pair is known by in the file of judgements."""
        return self.file, self.left.line, self.right.line


def main() -> None:
    """Print the table, the pairs or both."""
    wanted = _arguments()
    judged = judgements()
    lines = ["| rows | copies | near-duplicates | pairs judged | would leak | would not |", "|---|---|---|---|---|---|"]
    for file, settings in SETS.items():
        rows = [row for row in read(str(wanted.data / file), settings, lambda _: None) if isinstance(row, Row)]
        pairs = list(drawn(file, rows))
        lines.append(_line(file, rows, Counter(judged.get(pair.key, "not judged") for pair in pairs)))
        for pair in pairs if wanted.show else ():
            _show(pair, judged.get(pair.key, "not judged"))
    table = "\n".join(lines)
    if wanted.page:
        PAGE.write_text(with_block(PAGE.read_text(encoding="utf-8"), "results", table), encoding="utf-8")
    print(table)


def drawn(file: str, rows: list[Row]) -> Iterator[Pair]:
    """Yield one pair of each of the clusters that are drawn; every cluster is as likely, however many rows it has."""
    questions = [question(row) for row in rows]
    links, cluster_N = link(questions, THRESHOLD), cluster(questions, [None] * len(rows), THRESHOLD)
    first_N = np.unique(links.asked_N, return_index=True)[1]
    order = generator(SEED, "judged pairs", file).permutation(len(links.left_P)).tolist()
    one_each = {int(cluster_N[first_N[links.left_P[pair]]]): pair for pair in order}
    likeness_P = links.likeness_P()
    for number in generator(SEED, "judged clusters", file).permutation(sorted(one_each))[:PAIRS].tolist():
        pair = one_each[number]
        places = sorted((first_N[links.left_P[pair]], first_N[links.right_P[pair]]))
        yield Pair(file, rows[places[0]], rows[places[1]], float(likeness_P[pair]))


def judgements() -> dict[tuple[str, int, int], str]:
    """Return what was judged, by file and lines."""
    lines = JUDGED.read_text(encoding="utf-8").splitlines() if JUDGED.exists() else []
    judged = [json.loads(line) for line in lines]
    return {(one["file"], one["line"], one["other_line"]): one["judgement"] for one in judged}


def superfluous(check: type[Check], rows: list[Row]) -> int:
    """Count the rows that would go if one of each group stayed."""
    found = examine({"check": check(context_of(rows))}, rows)["check"]
    return sum(len(finding.rows) - 1 for finding in found)


def _line(file: str, rows: list[Row], verdicts: Counter[str]) -> str:
    copies, near = (superfluous(one.Check, rows) for one in (duplicates, near_duplicates))
    shares = (f"{count:,} ({100 * count / len(rows):.1f} %)" for count in (copies, near))
    judged = verdicts["yes"] + verdicts["no"]
    cells = [f"{NAMES[file.partition('/')[0]]}, {len(rows):,}", *shares, judged, verdicts["yes"], verdicts["no"]]
    return f"| {' | '.join(map(str, cells))} |"


def _show(pair: Pair, verdict: str) -> None:
    print(pair.file, pair.left.line, pair.right.line, f"{pair.likeness:.2f}", verdict, sep="\t")
    for row in (pair.left, pair.right):
        print(f"    {question(row)!r} -> {answer(row)[-60:]!r}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that holds the sets")
    parser.add_argument("--show", action="store_true", help="print the pairs with their texts")
    parser.add_argument("--page", action="store_true", help="write the table into the page")
    return parser.parse_args()


if __name__ == "__main__":
    main()
