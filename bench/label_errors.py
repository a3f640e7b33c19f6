"""How many of the labels that the check doubts most are wrong? Rank them, and count against what a person judged.

    python bench/label_errors.py ../shared/data/tasks/banking77/train.jsonl
    python bench/label_errors.py ../shared/data/tasks/clinc150/train.jsonl --show 100

prints the precision among the first 50 and 100 (after `--show N` also the rows). The judgements are in
`label_errors_judged.jsonl` beside this file; a row that nobody judged is counted as such and never as an error.

    python bench/label_errors.py ../shared/data/tasks/banking77/train.jsonl --flip 0.2

gives a fifth of the rows another label, each of the others being as likely, and prints how many of those are found.
With `--rows-a-label 20` only so many rows of each label are drawn first. The mean confidence stands beside the precision.
"""

import argparse
import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from luthier.config.settings import DataSettings
from luthier.core.hashing import generator
from luthier.core.types import Finding, Row
from luthier.data.answers_kind import with_answer
from luthier.data.checking import context_of
from luthier.data.checks.label_errors import Check
from luthier.data.examine import examine
from luthier.data.normal import answer, question
from luthier.data.read import read

JUDGED = Path(__file__).with_name("label_errors_judged.jsonl")
VERDICTS = ("error", "ambiguous", "fine", "not judged")


def main() -> None:
    """Rank one file and print the figures."""
    arguments = _arguments()
    rows = [row for row in read(str(arguments.data), DataSettings(), lambda _: None) if isinstance(row, Row)]
    if arguments.rows_a_label is not None:
        rows = list(drawn(rows, arguments.rows_a_label))
    right = dict(flipped(rows, arguments.flip))
    started = time.process_time()
    ranking = list(ranked(rows))
    print(f"{len(rows):,} rows, {len(ranking):,} doubted, {time.process_time() - started:.0f} s of one core")
    if right:
        print(found_flips([(row.id, suggested) for row, suggested, _ in ranking], right))
        print(f"mean confidence {np.mean([confidence for _, _, confidence in ranking] or [0.0]):.2f}")
        return
    judged = judgements(arguments.data)
    for most in (50, 100):
        print(precision([(row.line, suggested) for row, suggested, _ in ranking[:most]], judged))
    for rank, (row, suggested, confidence) in enumerate(ranking[: arguments.show], start=1):
        verdict = judged.get((row.line, suggested), "")
        print(rank, row.line, answer(row), suggested, f"{confidence:.2f}", verdict, repr(question(row)), sep="\t")


def ranked(rows: list[Row]) -> Iterator[tuple[Row, str, float]]:
    """Yield the doubted rows with the label suggested and the confidence, the most doubtful first."""
    by_id = {row.id: row for row in rows}
    for finding in examine({"label_errors": Check(context_of(rows))}, rows)["label_errors"]:
        if finding.repairs:
            row = by_id[finding.rows[0]]
            yield row, _suggested(finding, row), finding.confidence


def drawn(rows: list[Row], rows_a_label: int) -> Iterator[Row]:
    """Yield so many rows of each label at most, drawn, in the order in which they stood."""
    taken = Counter[str]()
    kept: set[int] = set()
    for place in generator("rows a label", 0).permutation(len(rows)).tolist():
        if taken[answer(rows[place])] < rows_a_label:
            taken[answer(rows[place])] += 1
            kept.add(place)
    yield from (rows[place] for place in sorted(kept))


def flipped(rows: list[Row], share: float) -> Iterator[tuple[str, str]]:
    """Give a share of the rows another label, in place; yield their ids with the labels that they had."""
    rng = generator("flips", 0)
    labels = sorted({answer(row) for row in rows})
    for place in np.flatnonzero(rng.random(len(rows)) < share).tolist():
        row = rows[place]
        others = [label for label in labels if label != answer(row)]
        yield row.id, answer(row)
        rows[place] = dataclasses.replace(row, content=with_answer(row.content, others[rng.integers(len(others))]))


def found_flips(ranking: list[tuple[str, str]], right: dict[str, str]) -> str:
    """Return a line with precision and recall of the doubts, and how often the suggestion is the label that was."""
    hits = [(row, suggested) for row, suggested in ranking if row in right]
    mended = sum(right[row] == suggested for row, suggested in hits)
    precision, recall = len(hits) / max(1, len(ranking)), len(hits) / len(right)
    return f"{len(right):,} flipped: precision {precision:.2f}, recall {recall:.2f}, suggestion right {mended / max(1, len(hits)):.2f}"


def judgements(data: Path) -> dict[tuple[int, str], str]:
    """Return what was judged of this file, by line and suggested label."""
    name = f"{data.parent.name}/{data.name}"
    lines = JUDGED.read_text(encoding="utf-8").splitlines() if JUDGED.exists() else []
    judged = [json.loads(line) for line in lines]
    return {(one["line"], one["suggested"]): one["judgement"] for one in judged if one["file"] == name}


def precision(first: list[tuple[int, str]], judged: dict[tuple[int, str], str]) -> str:
    """Return a line with how many of the first rows were judged an error, ambiguous, fine, or not at all."""
    verdicts = [judged.get(one, "not judged") for one in first]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS)
    return f"of the first {len(first)}: {counts}; precision {verdicts.count('error') / max(1, len(first)):.2f}"


def _suggested(finding: Finding, row: Row) -> str:
    content = finding.repairs[0].content
    assert content is not None
    return answer(Row(row.id, row.file, row.line, row.record, content))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--show", type=int, default=0, help="print this many rows of the ranking")
    parser.add_argument(
        "--flip", type=float, default=0.0, help="plant errors: the share of rows that get another label"
    )
    parser.add_argument("--rows-a-label", type=int, help="draw only so many rows of each label")
    return parser.parse_args()


if __name__ == "__main__":
    main()
