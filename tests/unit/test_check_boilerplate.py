"""Answers that say nothing of their own are found; what most rows do alike is taken for the task."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.core.types import Conversation, Finding, Message, Preference, Row, Text
from luthier.data.checking import context_of
from luthier.data.checks.boilerplate import Check, copies
from luthier.data.endings import repeated, unclosed
from luthier.data.examine import examine
from luthier.data.stock_phrases import stock_phrases


def row(answer: str, line: int = 1, asked: str | None = None) -> Row:
    turns = (Message("user", asked or f"question {line}, please"), Message("assistant", answer))
    return Row(f"r{line}", "a.jsonl", line, line, Conversation(turns))


def find(*rows: Row) -> dict[str, Finding]:
    return {one.kind: one for one in examine({"boilerplate": Check(context_of(rows))}, rows)["boilerplate"]}


def prose(count: int, end: str = ".") -> list[Row]:
    return [row(f"This is the whole answer with the number {line} in it{end}", line) for line in range(1, count + 1)]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("As an AI language model, I have no feelings.", "speaks-as-ai"),
        ("I'm an AI assistant and like rain.", "speaks-as-ai"),
        ("Well, my knowledge cutoff is in 2021.", "speaks-as-ai"),
        ("Als KI-Sprachmodell kann ich das nicht.", "speaks-as-ai"),
        ("I'm sorry, but I can't assist with that.", "refusal"),
        ("I’m sorry, I cannot fulfill your request.", "refusal"),
        ("I am unable to provide that information.", "refusal"),
        ("I apologize for the delay, the parcel left today.", "apology"),
        ("Sorry! It was my fault.", "apology"),
        ("Sure.<|im_end|>\n<|im_start|>user", "template-marks"),
        ("Yes\n### Response: no", "template-marks"),
        ("Dear [Your Name], hello", "unfilled-template"),
        ("My name is {{ name }}.", "unfilled-template"),
    ],
)
def test_stock_phrases_are_found_with_their_words(answer: str, kind: str) -> None:
    assert set(stock_phrases(answer)) == {kind}
    assert find(row(answer))[kind].rows == ("r1",)


@pytest.mark.parametrize(
    "answer",
    [
        "Air is a mixture of gases.",
        "I can't find the film, shall I look for another?",
        "He said he was sorry and could not come.",
        "An AI helps with the harvest in this story.",
        "Use a[0] and {x: 1}, see [the manual] and [1].",
        "# Title\n\n## Part\n\nText <b>bold</b> <s>old</s>"[:20],
        "",
    ],
)
def test_everyday_words_are_left(answer: str) -> None:
    assert stock_phrases(answer) == {}


@pytest.mark.parametrize(
    "text",
    [
        "yes " * 30,
        "the cat sat on the mat and " * 20,
        "Good answer so far and then it went wrong " + "again and again " * 200,
        "a" * 40,
        "Normal words first, quite a few of them, so that it is long: " + "ha" * 60,
        "x = 1\n" * 100,
    ],
)
def test_loops_are_found(text: str) -> None:
    assert repeated(text)
    assert find(row(text))["repeats-itself"].rows == ("r1",)
    assert find(Row("r1", "a.txt", 1, 1, Text(text)))["repeats-itself"].rows == ("r1",)


@pytest.mark.parametrize(
    "text",
    [
        "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream.",
        "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n| 5 | 6 |\n| 7 | 8 |",
        " ".join(f"Step {n} takes {n * 3} minutes and costs {n * n} dollars." for n in range(40)),
        "hahaha, nooooo, brrrrr! " + "-" * 60,
        "",
    ],
)
def test_verses_tables_and_lists_are_no_loops(text: str) -> None:
    assert repeated(text) is None


def test_an_answer_that_is_left_open_is_found() -> None:
    assert unclosed("```python\nprint(1)") and not unclosed("```python\nprint(1)\n```")
    assert unclosed('{"a": [1, 2') and unclosed('{"a": "b') and not unclosed('{"a": [1, 2]}')
    assert not unclosed("[sic] is no JSON") and not unclosed("{x} neither")
    assert find(row('{"a": [1, 2'))["unclosed-answer"].rows == ("r1",)


def test_an_answer_that_breaks_off_is_found_where_the_others_are_whole() -> None:
    cut = row("This answer with a number of words breaks off in the", 99)
    styled = row("This answer with a number of words has no mark at its end", 98)
    found = find(*prose(50), cut, styled)
    assert found["cut-answer"].rows == ("r99",) and found["cut-answer"].severity == "warning"
    assert found["open-end"].rows == ("r98",) and found["open-end"].severity == "info"
    assert find(*prose(50, end=""), cut) == {}
    assert "cut-answer" not in find(*prose(5), cut)


def test_lists_links_and_short_answers_may_end_without_a_mark() -> None:
    ends = ["These are the three of them:\n- one thing that is long enough to be prose here", "Look here, it is all there:\nhttps://example.com/a", "yes"]  # fmt: skip
    assert find(*prose(50), *(row(text, 90 + at) for at, text in enumerate(ends))) == {}


def test_a_copied_prompt_is_found_unless_copying_is_the_task() -> None:
    asked = "Where is the   next station, please?"
    copy = row("where is the next station, please? It is there.", 99, asked)
    assert copies("Where is the next station, please?", asked) and not copies("Where is it?", "Where is it?")
    assert find(*prose(30), copy)["copied-prompt"].severity == "warning"
    copying = [row(f"Say the words of line {n}", n, f"Say the words of line {n}") for n in range(9)]
    assert find(*copying)["copied-prompt"].severity == "info"


def test_one_answer_to_many_questions_is_found_in_free_text_and_not_among_labels() -> None:
    same = [row("Thank you for your message, we will answer soon.", line) for line in range(100, 130)]
    finding = find(*prose(100), *same)["same-answer"]
    assert finding.severity == "warning" and len(finding.rows) == 30 and "30 different questions" in finding.detail
    assert find(*prose(1000), *same[:12])["same-answer"].severity == "info"
    copied = [row("Thank you for your message, we will answer soon.", n, "the same") for n in range(100, 130)]
    assert "same-answer" not in find(*prose(100), *copied)
    labels = [row(f"this is the label number {line % 5}", line) for line in range(500)]
    assert find(*labels) == {}


def test_no_private_data_is_quoted() -> None:
    found = find(*prose(50), row("You can reach all of us by mail to ana@example.org for the", 99))
    assert "ana@" not in found["cut-answer"].detail and "for the" in found["cut-answer"].detail


def test_only_what_is_trained_counts() -> None:
    bad, good = "As an AI language model, I refuse.", "It is a test."
    asked = Message("user", "What is it?")
    silent = Conversation((asked, Message("assistant", bad, weight=0), asked, Message("assistant", good)))
    pair = Preference((asked,), (Message("assistant", good),), (Message("assistant", bad),))
    assert find(Row("r1", "a", 1, 1, silent), Row("r2", "a", 2, 2, pair)) == {}
    spoken = Conversation((asked, Message("assistant", bad), asked, Message("assistant", good)))
    assert set(find(Row("r1", "a", 1, 1, spoken))) == {"speaks-as-ai"}


@given(st.text(), st.text())
def test_any_text_is_survived(asked: str, answer: str) -> None:
    find(row(answer, asked=asked))


@pytest.mark.parametrize("piece", ["a", "ab", "I'm sorry ", "[", "{", "```", "as an ai ", "<|", "word ", "{{ a"])
def test_a_very_long_answer_takes_little_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    started = time.process_time()
    find(row(text, asked=text))
    assert time.process_time() - started < 2
