"""Lengths: measured by the model where there is one, estimated and said so where there is none."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from luthier.core.types import Conversation, Finding, Message, Preference, Row, Text
from luthier.data.checking import Context, RowLength, context_of
from luthier.data.checks.lengths import Check, sequences
from luthier.data.shared_prefix import SharedPrefix

DIRTY = Path(__file__).parents[2].parent / "shared" / "data" / "dirty"


def row(line: int, question: str, answer: str = "fine", system: str | None = None) -> Row:
    turns = (Message("user", question), Message("assistant", answer))
    return Row(
        f"r{line}",
        "a.jsonl",
        line,
        line,
        Conversation(turns if system is None else (Message("system", system), *turns)),
    )


def find(context: Context, rows: list[Row]) -> dict[str, Finding]:
    check = Check(context)
    seen = [finding for position, one in enumerate(rows) for finding in check.see(position, one)]
    return {finding.kind: finding for finding in [*seen, *check.end()]}


def by_words(rows: Sequence[Row]) -> list[RowLength]:
    """A ruler with a context of 20 words, which cuts rows up to 30 and refuses longer ones."""
    out = []
    for one in rows:
        (text,) = sequences(one)
        words = len(text.split())
        if words > 30:
            out.append(RowLength(words, 0, problem="too-long"))
        else:
            out.append(RowLength(words, 1, lost=max(0, words - 20)))
    return out


def test_cut_rows_and_rows_that_do_not_fit_are_named_with_what_is_lost() -> None:
    rows = [row(line, "word " * (4 + line % 3)) for line in range(1, 600)]
    rows += [row(601, "word " * 22), row(602, "word " * 24), row(603, "word " * 40)]
    found = find(replace(context_of(rows), measure=by_words), rows)
    assert found["truncated"].rows == ("r601", "r602") and found["truncated"].severity == "warning"
    assert (
        "12 tokens are lost" in found["truncated"].detail and "a.jsonl:601 with 25 tokens" in found["truncated"].detail
    )
    assert found["does-not-fit"].rows == ("r603",) and found["does-not-fit"].severity == "error"
    total = sum(length.tokens for length in by_words(rows))
    assert f"602 rows have {total:,} tokens, 601 of them trained" in found["distribution"].detail
    assert "the longest 43 (a.jsonl:603)" in found["distribution"].detail


def test_without_a_model_lengths_are_estimated_and_the_finding_says_so() -> None:
    rows = [row(line, "x" * 393) for line in range(1, 50)]
    found = find(context_of(rows), rows)
    assert set(found) == {"distribution"}
    assert "estimated at 4 bytes a token" in found["distribution"].detail
    assert "about 5,096 tokens" in found["distribution"].detail, "49 rows of 4 + 393 + 9 + 4 bytes and three line ends"
    assert found["distribution"].confidence == 0.5 and found["distribution"].rows == ()


@pytest.mark.skipif(not DIRTY.is_dir(), reason="needs ../shared/data")
def test_planted_long_rows_are_named() -> None:
    records = [json.loads(line) for line in (DIRTY / "long_rows.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row(line, one["prompt"], one["completion"]) for line, one in enumerate(records, 1)]
    issues = json.loads((DIRTY / "MANIFEST.json").read_text(encoding="utf-8"))["files"]["long_rows.jsonl"]["issues"]
    assert find(context_of(rows), rows)["far-longer"].rows == tuple(
        f"r{line}" for line in sorted(one["line"] for one in issues)
    )


def test_every_kind_of_row_has_its_sequences() -> None:
    ask, good, bad = Message("user", "hi"), Message("assistant", "good"), Message("assistant", "bad")
    contents = [Text("a page"), Preference((ask,), (good,), (bad,)), Conversation((ask, good))]
    told = [list(sequences(Row("1", "a", 1, 1, content))) for content in contents]
    assert [len(one) for one in told] == [1, 2, 1] and told[0] == ["a page"]
    assert "good" in told[1][0] and "bad" in told[1][1]


def test_no_rows_have_no_lengths() -> None:
    assert find(context_of([]), []) == {}


def exact_ratio(texts: list[str], block: int = 64) -> float:
    blocks = [text[: start + block] for text in texts for start in range(0, len(text), block)]
    return len(blocks) / len(set(blocks))


def test_the_share_of_common_beginnings_is_exact_while_it_is_small() -> None:
    rng = random.Random(1)
    system = "".join(rng.choices("abc", k=640))
    texts = [system + "".join(rng.choices("abc", k=rng.randint(0, 640))) for _ in range(800)]
    prefix = SharedPrefix()
    for text in texts:
        prefix.add(text)
    assert prefix.ratio == pytest.approx(exact_ratio(texts)) and prefix.ratio > 2


def test_the_share_of_common_beginnings_is_estimated_well_when_it_is_large() -> None:
    rng = random.Random(2)
    systems = ["".join(rng.choices("abc", k=320)) for _ in range(5)]
    texts = [rng.choice(systems) + f"{number:064d}" * 3 for number in range(40_000)]
    prefix = SharedPrefix()
    for text in texts:
        prefix.add(text)
    assert prefix.ratio == pytest.approx(exact_ratio(texts), rel=0.03)


def test_a_very_long_row_is_quick_and_shares_its_beginning() -> None:
    prefix = SharedPrefix()
    for _ in range(2):
        prefix.add("x" * 20_000_000)
    assert 1 <= prefix.ratio < 1.01
