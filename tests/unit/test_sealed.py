"""A test row that was planted where prompts are made of is found and named, whatever it hides behind."""

import dataclasses

import pytest
from arm_material import PAIRS, row

from luthier.core.errors import DataError, ProofFailed
from luthier.data.knowledge import Document
from luthier.verdict.sealed import Sealed

TEST = [
    row(101, "Where can I return my rented bike after closing time?", "at the night gate"),
    row(102, "Is there a helmet?", "yes"),
    row(103, "Card lost", "lost_card"),
]
POOL = [row(number, *pair) for number, pair in enumerate(PAIRS, start=1)]


def test_clean_sources_are_proven_and_counted():
    proof = Sealed(TEST).prove(
        POOL, [Document("facts.md", "The night gate is in the yard. Where can I return my bike?")]
    )
    assert proof == {"test_rows": 3, "pool_rows": 5, "texts": ["facts.md"]}


@pytest.mark.parametrize(
    ("planted", "shared"),
    [
        (TEST[1], "id"),
        (dataclasses.replace(TEST[1], id="other"), "content"),
        (row(7, "  is there a HELMET", "another answer"), "question"),
    ],
)
def test_a_test_row_in_the_pool_is_refused_by_its_name(planted, shared: str):
    with pytest.raises(ProofFailed, match=rf"leak: .*the {shared} of the sealed test row row-102 \(rows.jsonl:102\)"):
        Sealed(TEST).prove([*POOL, planted], [])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"text": "Where can I return my rented bike after closing time?", "answer": "at the night gate"}', "row-101"),
        ("Q: is there a helmet\nA: Yes, there is.", "row-102"),
        ("lost_card,Card lost\nother,thing", "row-103"),
    ],
)
def test_a_text_with_a_test_question_and_its_answer_is_refused_by_its_name(text: str, named: str):
    with pytest.raises(DataError, match=rf"leak: dump.txt .*{named}"):
        Sealed(TEST).prove(POOL, [Document("dump.txt", "much else before\n" * 50 + text)])


def test_a_question_alone_or_an_answer_far_away_gives_nothing_away():
    far = "Is there a helmet? " + "word " * 40 + "yes"
    Sealed(TEST).prove([], [Document("faq.md", far), Document("b.md", "Card lost? Call us.")])
