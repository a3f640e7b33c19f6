"""How many of the labels that the check doubts most are wrong? Rank them, and count against what a person judged.

    python bench/label_errors.py ../shared/data/tasks/banking77/train.jsonl
    python bench/label_errors.py ../shared/data/tasks/clinc150/train.jsonl --show 100

prints the precision among the first 50 and 100 (after `--show N` also the rows). The judgements are in
`label_errors_judged.jsonl` beside this file; a row that nobody judged is counted as such and never as an error.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

from luthier.config.settings import DataSettings
from luthier.core.types import Finding, Row
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
    started = time.monotonic()
    ranking = list(ranked(rows))
    print(f"{len(rows):,} rows, {len(ranking):,} doubted, {time.monotonic() - started:.0f} s")
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
    return parser.parse_args()


if __name__ == "__main__":
    main()
