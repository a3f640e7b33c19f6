"""Damaged and invisible characters are found and mended; what scripts and emoji need is left alone."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.core.types import Conversation, Finding, Message, Preference, Row, Text
from luthier.data.checking import Repairing, context_of
from luthier.data.checks.characters import Check
from luthier.data.examine import examine
from luthier.data.mojibake import unscrambled
from luthier.data.odd_characters import cleaned, decomposed, odd_characters

HEALTHY = [
    "Straße, Äpfel, „Zitat“ und ‚halbes‘ – 100 €",
    "Le café est « très » bon, déjà vu à Besançon… n’est-ce pas ?",
    "«Coração, ação, NÃO», disse a mãe. CANÇÃO”",
    "Zażółć gęślą jaźń, Łódź; „pięć”",
    "Příliš žluťoučký kůň úpěl ďábelské ódy",
    "Ürünü almak için İstanbul’a gittik",
    "Tiếng Việt có nhiều dấu: ắ, ợ, ễ",
    "Съешь же ещё этих мягких французских булок",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
    "می\u200cخواهم بروم و ببینم",
    "עברית \u200fעם סימני כיוון",
    "\u202bالعربية (test) هنا\u202c",
    "हिन्दी में क्\u200dष और र्\u200dय",
    "ภาษา\u200bไทย\u200bไม่มีช่องว่าง",
    "日本語の「引用」とー、葛\U000e0100城市",
    "中文，标点。《书》——……",
    "한국어 문장입니다.",
    "👩\u200d👩\u200d👧 👍🏽 ❤️\u200d🔥 🏳️\u200d🌈 🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "tabs\tand\nlines\r\nstay; 3 × 4 = 12, 20 °C ± 0.5, ½ “quoted” it’s",
    "ESPAÑA» y “CAFÉ” Ñ… É» Å” Ä“",
]
DAMAGED = [
    ("donâ€™t say â€œneverâ€\x9d", "don’t say “never”"),
    ("CafÃ© con leche", "Café con leche"),
    ("5 â‚¬ and Â£4 at 20Â°C", "5 € and £4 at 20°C"),
    ("ÃƒÂ© twice", "é twice"),
    ("ðŸ˜€ smile", "😀 smile"),
    ("Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "привет"),
    ("Å‚Ã³dÅº", "łódź"),
    ("ï»¿first", "first"),
    ("Pizza \xed\xa0\xbc\xed\xbd\x95", "Pizza \U0001f355"),
]


def row(answer: str, line: int = 1, asked: str = "Say it") -> Row:
    return Row(f"r{line}", "a.jsonl", line, line, Conversation((Message("user", asked), Message("assistant", answer))))


def find(*rows: Row) -> dict[str, Finding]:
    findings = examine({"characters": Check(context_of(rows))}, rows)["characters"]
    assert len({finding.kind for finding in findings}) == len(findings)
    return {finding.kind: finding for finding in findings}


@pytest.mark.parametrize("text", HEALTHY)
def test_healthy_text_of_many_scripts_is_left_alone(text: str) -> None:
    assert list(odd_characters(text)) == [] and not decomposed(text)
    assert cleaned(text) == text
    assert find(row("fine", asked=text)) == {}


@pytest.mark.parametrize(("damaged", "right"), DAMAGED)
def test_mojibake_is_turned_back(damaged: str, right: str) -> None:
    assert cleaned(damaged) == right
    assert set(find(row("fine", asked=damaged))) >= {"mojibake"}


@given(st.lists(st.text("abdegmnoprstäöüéèêçñàåøœß’“”–…€", min_size=2, max_size=9), min_size=1, max_size=6))
def test_western_words_come_back_from_a_wrong_decoding(words: list[str]) -> None:
    text = "a" + " a".join(words)
    bytes_of = text.encode("utf-8")
    scrambled = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in bytes_of)
    assert unscrambled(scrambled) == text
    assert unscrambled(text) == text


@pytest.mark.parametrize(
    ("text", "kind", "mended"),
    [
        ("a\u0000b", "control-character", "ab"),
        ("\x1b[31mred\x1b[0m", "control-character", "red"),
        ("it\x92s", "control-character", "it’s"),
        ("one\x0btwo", "control-character", "one\ntwo"),
        ("\\( \x0crac{1}{2} \x08eta \\)", "control-character", "\\( \\frac{1}{2} \\beta \\)"),
        ("z\u200bero", "invisible-character", "zero"),
        ("jo\u200din", "invisible-character", "join"),
        ("soft\u00adhyphen", "invisible-character", "softhyphen"),
        ("\ufeffstart", "invisible-character", "start"),
        ("left\u202eright", "direction-character", "leftright"),
        ("mark\u200e", "direction-character", "mark"),
        ("say\U000e0068\U000e0069", "hidden-text", "say"),
        ("x\U000e0101", "hidden-text", "x"),
        ("a\u2028b", "line-separator", "a\nb"),
        ("\ue000", "private-use-character", "\ue000"),
        ("lo\ufffdst", "replacement-character", "lo\ufffdst"),
    ],
)
def test_each_kind_is_found_and_mended_or_left(text: str, kind: str, mended: str) -> None:
    (finding,) = find(row("fine", asked=text)).values()
    assert finding.kind == kind and finding.rows == ("r1",) and "a.jsonl:1" in finding.detail
    assert cleaned(text) == mended
    assert [(repair.action, repair.safe) for repair in finding.repairs] == ([("fix", True)] if mended != text else [])


def test_accents_written_two_ways_are_a_warning_and_one_way_a_note() -> None:
    both = find(row("cafe\u0301", 1), row("café", 2))
    assert both["decomposed-accent"].severity == "warning" and both["decomposed-accent"].rows == ("r1",)
    assert find(row("cafe\u0301", 1), row("the\u0301", 2))["decomposed-accent"].severity == "info"


def test_white_space_around_answers_is_trimmed_and_told_apart_from_a_convention() -> None:
    rows = [row("yes ", 1), row("no", 2), row("maybe", 3, asked=" spaces in questions do not count ")]
    assert find(*rows)["outer-space"].rows == ("r1",) and find(*rows)["outer-space"].severity == "warning"
    assert find(row(" yes", 1), row(" no", 2))["outer-space"].severity == "info"
    assert find(row("two  spaces", 1))["inner-space"].severity == "info"
    assert find(row("```\na  =  1\n```", 1)) == {}


def test_the_indentation_of_code_stays() -> None:
    check = Check(context_of([]))
    mended = check.repair(row("    if x:\n        return 1\n\n").content)
    assert isinstance(mended, Conversation) and mended.messages[1].content == "    if x:\n        return 1"


def test_every_text_of_a_row_is_looked_at_and_mended() -> None:
    bad = "x\u0000"
    call = {"type": "function", "function": {"name": "f", "arguments": {"deep": [bad]}}}
    message = Message("assistant", "ok", reasoning=bad, tool_calls=(call,))  # type: ignore[arg-type]
    asked = (Message("user", "q"),)
    for content in (
        Text(bad),
        Conversation((Message("system", bad), Message("user", "q"), Message("assistant", "a"))),
        Conversation((*asked, message)),
        Preference(asked, (Message("assistant", "a"),), (Message("assistant", bad),)),
    ):
        assert set(find(Row("r", "a", 1, 1, content))) == {"control-character"}
        check: Repairing = Check(context_of([]))
        mended = check.repair(content)
        assert "\\u0000" not in ascii(mended) and "\\x00" not in ascii(mended)
        assert check.repair(mended) is mended


@given(st.text(), st.text())
def test_any_text_is_survived_and_mending_twice_changes_nothing_more(asked: str, answer: str) -> None:
    one = row(answer, asked=asked)
    find(one)
    check = Check(context_of([]))
    mended = check.repair(one.content)
    assert check.repair(mended) == mended
    assert set(find(Row("r", "a", 1, 1, mended))) <= {
        "replacement-character", "private-use-character", "inner-space", "outer-space",
    }  # fmt: skip


@given(st.text(st.sampled_from("ÃÂâ€™œ\x9d©a \u200b\u202e\x1b[m\u0301é\ue000\U0001f3f4\U000e0067"), max_size=40))
def test_damage_upon_damage_comes_to_rest(text: str) -> None:
    assert cleaned(cleaned(text)) == cleaned(text)


@pytest.mark.parametrize("piece", ["Ã©", "\u200b", "â€", "e\u0301", "\x1b[", "\U000e0067", "a  b"])
def test_a_very_long_text_takes_little_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    started = time.process_time()
    find(row(text))
    cleaned(text)
    assert time.process_time() - started < 2
