"""Private data is found by proof or shape, covered with stable placeholders, and everyday numbers are left alone."""

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from luthier.core.types import Conversation, Finding, Message, Row
from luthier.data.checking import context_of
from luthier.data.checks.private import Check, masked
from luthier.data.examine import examine
from luthier.data.identifiers import NATIONAL_IDS, is_card, is_iban, luhn
from luthier.data.private_spans import KINDS, private_spans
from luthier.data.redact import redactor

# Numbers that issuers and standards publish as examples.
FOUND = [
    ("card", "4111111111111111"),
    ("card", "5555 5555 5555 4444"),
    ("card", "3782-822463-10005"),
    ("card", "6011111111111117"),
    ("card", "30569309025904"),
    ("card", "3530111333300000"),
    ("iban", "GB82 WEST 1234 5698 7654 32"),
    ("iban", "DE89370400440532013000"),
    ("iban", "FR1420041010050500013M02606"),
    ("iban", "NO9386011117947"),
    ("iban", "MT84MALT011000012345MTLCAST001S"),
    ("national-id", "12345678Z"),
    ("national-id", "X1234567L"),
    ("national-id", "255081416802538"),
    ("national-id", "2 55 08 14 168 025 38"),
    ("national-id", "RSSMRA85T10A562S"),
    ("national-id", "44051401359"),
    ("national-id", "811218-9876"),
    ("national-id", "529.982.247-25"),
    ("national-id", "11010519491231002X"),
    ("national-id", "4991 1866 5246"),
    ("social-security-number", "078-05-1120"),
    ("social-security-number", "AB 12 34 56 C"),
    ("email", "first.last+tag@mail.example.co.uk"),
    ("email-in-words", "ana [at] example [dot] org"),
    ("email-in-words", "ana dot gomez at example dot org"),
    ("email-in-words", "ana at gmail dot com"),
    ("phone", "+1 (212) 555-0180"),
    ("phone", "+44 20 7946 0129"),
    ("phone", "+49 (0)30 23125 443"),
    ("phone", "+33 1 99 00 83 50"),
    ("phone", "0044 20 7946 0129"),
    ("phone", "(617) 555-0173"),
    ("phone", "212.555.0145"),
    ("phone", "07700 900965"),
    ("phone", "01 99 00 83 50"),
    ("ip-address", "198.51.100.176"),
    ("ip-address", "2001:db8:85a3::8a2e:370:7334"),
    ("api-key", "sk-FAKEyNfxDkbV6rKsOKtmTmsAcHinqwC4"),
    ("api-key", "sk-ant-api03-FAKE0000aaaaBBBB1111cccc"),
    ("api-key", "AKIAIOSFODNN7EXAMPLE"),
    ("api-key", "ghp_FAKEt0mtnipq0LfBTJ1VVu1SAltm86av6rdU"),
    ("api-key", "AIzaFAKE0123456789abcdefghijklmnopqrstu"),
    ("api-key", "hf_FAKEabcdefghijklmnopqrstuvwxyzABCD"),
    ("api-key", "xoxb-FAKE166748-UtynEjsVrZ7EafFER4JK"),
    ("api-key", "eyJhbGciOiJub25lIn0.eyJmYWtlIjp0cnVlfQ.nnK6L1cusbwzhBeY"),
    ("private-key", "-----BEGIN RSA PRIVATE KEY-----\nMIIFAKE\n-----END RSA PRIVATE KEY-----"),
]
LEFT = [
    "The answer is 4111111111111112, which fails its check.",
    "GB82 WEST 1234 5698 7654 33 and DE88370400440532013000",
    "12345678A is no id, RSSMRA85T10A562T neither, 529.982.247-26 nor 811218-9877",
    "000-12-3456, 666-12-3456, 123-00-4567 and 123-45-0000 were never issued",
    "Version 10.20.30.40 and v1.2.3.4 run on 127.0.0.1",
    "ISBN 978-0-7292-7954-7 costs $4,606.00 since 2023-07-08",
    "Meet @sofiawong @ 7 pm; look at example.com, it is at noon, dot your i",
    "0722eebb-b771-e582-05af-537837742539 1357c4e09da0596add04f27b282650e3c77b3037",
    "sha256-e3b0c442-98fc1c14-9afbf4c8-996fb924-27ae41e4-649b934c-a495991b-7852b855",
    "12:30:45 std::vector<int>::size_type a::b",
    "password = getpass() # or password: your_password, token: str, secret=${SECRET_1}",
    'password: "your-password-1" api_key="YOUR_API_KEY" token=xxxx-xxxx-xxxx',
    "https://user:password@example.com/ and https://example.com:8080/a@b",
    "He has 2 * 30 = 60 + 1000 + 2000 + 3000 = 6060 and 100 200 300 400",
    "5 +49 30 23125 443 = what? 1234567890 * 2, 20231231235959, 1700000000000",
    "555-1234, 2023/2024, 1-2-3-4-5-6-7-8-9-10, 3.14159265358979",
    "task-force sk-learn risk-free desk-12 hf_hub",
]


def row(*texts: str, line: int = 1) -> Row:
    turns = tuple(Message("assistant" if place % 2 else "user", text) for place, text in enumerate(texts))
    return Row(f"r{line}", "a.jsonl", line, line, Conversation(turns))


def find(*rows: Row) -> dict[str, Finding]:
    return {one.kind: one for one in examine({"private": Check(context_of(rows))}, rows)["private"]}


@pytest.mark.parametrize(("kind", "value"), FOUND)
def test_what_is_private_is_found_from_end_to_end(kind: str, value: str) -> None:
    for text in (value, f"It is {value}.", f"({value}), really", f"mine:\n{value}\nyours?"):
        ((start, end, found),) = private_spans(text)
        assert (found, text[start:end]) == (kind, value)


@pytest.mark.parametrize("text", LEFT)
def test_what_only_looks_private_is_left(text: str) -> None:
    assert private_spans(text) == []


def test_a_password_is_found_where_only_a_password_stands() -> None:
    for text in ("postgres://app:s3cr3t!x@db.example.com/x", "password = s3cr3t!x", "API_KEY: 's3cr3t!x'"):
        ((start, end, kind),) = private_spans(text)
        assert (kind, text[start:end]) == ("password", "s3cr3t!x")


@given(st.text("0123456789", min_size=2, max_size=18), st.data())
def test_luhn_sees_every_wrong_digit(digits: str, data: st.DataObject) -> None:
    whole = next(digits + check for check in "0123456789" if luhn(digits + check))
    at = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != whole[at]]))
    assert not luhn(whole[:at] + other + whole[at + 1 :])


@given(st.text("0123456789", min_size=11, max_size=11), st.data())
def test_verhoeff_sees_every_wrong_digit_and_every_swap(digits: str, data: st.DataObject) -> None:
    proves = next(kind.proves for kind in NATIONAL_IDS if kind.country == "IN")
    (whole,) = [digits + check for check in "0123456789" if proves(digits + check)]
    at = data.draw(st.integers(0, 10))
    swapped = whole[:at] + whole[at + 1] + whole[at] + whole[at + 2 :]
    assert proves(swapped) == (swapped == whole)
    other = str((int(whole[at]) + data.draw(st.integers(1, 9))) % 10)
    assert not proves(whole[:at] + other + whole[at + 1 :])


def test_cards_and_ibans_know_their_lengths() -> None:
    assert is_card("4242424242424242") and not is_card("424242424242424242")
    assert is_iban("BE68539007547034") and not is_iban("BE685390075470340") and not is_iban("XX68539007547034")


def test_the_same_value_has_the_same_placeholder_however_it_is_written() -> None:
    cover = redactor(0)
    texts = ["Call +44 20 7946 0129", "+442079460129 it is", "not +44 20 7946 0128"]
    first, second, third = (cover.redacted(text, KINDS) for text in texts)
    number = first.removeprefix("Call ")
    assert number.startswith("[PHONE_") and second == f"{number} it is" and number not in third
    assert redactor(0).redacted(texts[0], KINDS) == first != redactor(1).redacted(texts[0], KINDS)


def test_json_stays_json() -> None:
    cover = redactor(0).redacted
    for text in ('{"card": 4111111111111111, "n": 2}', '{"card": "4111111111111111"}', '{"c":4111111111111111}'):
        value = json.loads(cover(text, KINDS))
        assert next(iter(value.values())).startswith("[CARD_")
    assert "4111" not in cover(cover('{"card": 4111111111111111}', KINDS), KINDS)


def test_secrets_are_mended_without_a_word_and_addresses_are_proposed() -> None:
    one = row("I am ana@example.org", "and pay with 4111111111111111")
    found = find(one)
    assert set(found) == {"email", "card"}
    assert found["card"].severity == "error" and found["email"].severity == "warning"
    (safe,), (proposed,) = found["card"].repairs, found["email"].repairs
    assert safe.safe and safe.content is None and not proposed.safe
    mended = Check(context_of([])).repair(one.content)
    assert isinstance(mended, Conversation) and isinstance(proposed.content, Conversation)
    assert mended.messages[0].content == "I am ana@example.org" and "4111" not in mended.messages[1].content
    assert "ana" not in proposed.content.messages[0].content and "4111" not in proposed.content.messages[1].content


def test_no_value_stands_in_a_finding() -> None:
    values = [value for _, value in FOUND]
    found = find(*(row(f"It is {value}.", "ok", line=line) for line, value in enumerate(values, 1)))
    details = " ".join(finding.detail for finding in found.values())
    assert not [value for value in values if value in details]
    assert masked("ana@example.org") == "an...rg" and masked("secret") == "..."


def test_tool_arguments_are_looked_at_and_covered() -> None:
    call = {"type": "function", "function": {"name": "pay", "arguments": {"card": "4111111111111111"}}}
    turns = (Message("user", "pay"), Message("assistant", "", tool_calls=(call,)))  # type: ignore[arg-type]
    one = Row("r", "a", 1, 1, Conversation(turns))
    assert set(find(one)) == {"card"}
    assert "4111" not in str(Check(context_of([])).repair(one.content))


@given(st.text() | st.text("0123456789 +-.()@:/[]aAtdo_="))
@example("4111111111111111 4111111111111111")
def test_any_text_is_survived_and_covering_twice_changes_nothing_more(text: str) -> None:
    cover = redactor(0).redacted
    once = cover(text, KINDS)
    assert cover(once, KINDS) == once
    find(row(text, text))


@pytest.mark.parametrize(
    "piece",
    ["1 ", "a@", "a@a.", "eyJ", "-----BEGIN PRIVATE KEY-----", "+1", "1.", "1:", "a:", "GB82", "x at x dot x ", "sk-", "password=", "://a:"],
)  # fmt: skip
def test_a_very_long_text_takes_little_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    started = time.process_time()
    find(row(text))
    assert time.process_time() - started < 2
