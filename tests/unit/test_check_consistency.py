"""Answers that depart from the form of the others are found, by kind; what may differ is left alone."""

import json
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.types import Conversation, Finding, JsonObject, Message, Row
from luthier.data.answers_kind import Labels, scalars, with_value
from luthier.data.checking import context_of
from luthier.data.checks.consistency import Check
from luthier.data.examine import examine
from luthier.data.label_spellings import Style, house_style, restyled, spelling_deviations
from luthier.data.languages import language
from luthier.data.value_formats import value_format


def row(line: int, asked: str, said: str, system: str | None = None) -> Row:
    turns = (Message("user", asked), Message("assistant", said))
    turns = turns if system is None else (Message("system", system), *turns)
    return Row(f"r{line}", "a.jsonl", line, line, Conversation(turns))


def find(rows: Sequence[Row]) -> list[Finding]:
    return examine({"consistency": Check(context_of(rows))}, rows)["consistency"]


def objects(make: Callable[[int], JsonObject], count: int = 40) -> list[Row]:
    return [row(i, f"question {i} about some order", json.dumps(make(i))) for i in range(count)]


def order(i: int) -> JsonObject:
    return {"order_id": f"A{i}", "status": "open" if i % 2 else "closed", "total": i, "day": f"2024-03-{i % 28 + 1:02}"}


def lines(finding: Finding) -> list[int]:
    return [int(one[1:]) for one in finding.rows]


def test_rows_of_one_form_are_left_alone() -> None:
    assert find(objects(order)) == []
    assert find([]) == [] == find([row(1, "a", "b")])


@pytest.mark.parametrize(
    ("odd", "kind", "words"),
    [
        ({"orderId": "A7", "status": "open", "total": 7, "day": "2024-03-07"}, "key-spelling", "'orderId'"),
        ({"status": "open", "order_id": "A7", "total": 7, "day": "2024-03-07"}, "key-order", "order_id, status"),
        ({"order_id": "A7", "status": "open", "day": "2024-03-07"}, "missing-key", "'total'"),
        ({"order_id": "A7", "status": "open", "total": "7", "day": "2024-03-07"}, "value-type", "text at 'total'"),
        ({"order_id": "A7", "status": "open", "total": 7, "day": "07.03.2024"}, "date-format", "'07.03.2024'"),
        ({"order_id": "A7", "status": "Open", "total": 7, "day": "2024-03-07"}, "label-spelling", "'Open'"),
    ],
)
def test_one_departure_from_the_schema_is_one_warning(odd: JsonObject, kind: str, words: str) -> None:
    (finding,) = find(objects(lambda i: odd if i == 7 else order(i), 60))
    assert (finding.kind, finding.severity, lines(finding)) == (kind, "warning", [7])
    assert words in finding.detail and "a.jsonl:7" in finding.detail


def test_optional_keys_and_keys_in_any_order_are_no_schema_to_depart_from() -> None:
    def slots(i: int) -> JsonObject:
        pairs = [("artist", f"x{i}"), ("song", f"y{i}"), ("year", f"z{i}")]
        return {"intent": "play", "slots": dict(pairs[i % 3 :] + pairs[: i % 2])}

    assert find(objects(slots)) == []


def test_lists_beside_single_values_are_worth_knowing_once() -> None:
    (finding,) = find(objects(lambda i: {"name": ["a", "b"] if i == 3 else "a", "tag": ["x"] if i == 5 else "x"}))
    assert (finding.kind, finding.severity, lines(finding)) == ("value-or-list", "info", [3, 5])


def test_prose_among_json_is_a_warning_and_json_among_prose_a_note() -> None:
    rows = objects(order)
    rows[4] = row(4, "question", "I am sorry, there is no such order.")
    rows[9] = row(9, "question", f"```json\n{json.dumps(order(9))}\n```")
    forms = {one.kind: one for one in find(rows)}
    assert [lines(one) for one in find(rows) if one.kind == "answer-form"] == [[4], [9]]
    assert forms["answer-form"].severity == "warning"
    prose = [row(i, f"tell me about {i}", f"Here is a story about number {i}, told slowly.") for i in range(40)]
    (note,) = find([*prose, row(40, "as json", json.dumps(order(1)))])
    assert note.kind == "answer-form" and note.severity == "info"


def test_rows_under_another_system_prompt_may_answer_in_another_form() -> None:
    rows = [
        row(
            i,
            f"q{i}",
            json.dumps(order(i)) if i % 8 else "Plain words it is.",
            "Write JSON." if i % 8 else "Write prose.",
        )
        for i in range(80)
    ]
    assert {one.kind for one in find(rows)} == {"system-prompt-other"}


def test_dates_of_one_field_without_a_common_way_are_told_but_not_called_wrong() -> None:
    found = find(objects(lambda i: {"day": f"2024-03-{i % 9 + 1:02}" if i % 2 else f"{i % 9 + 1}.3.2024"}))
    assert [(one.kind, one.severity, len(one.rows)) for one in found] == [("date-format", "info", 20)]


def test_values_copied_from_the_question_are_written_as_it_writes_them() -> None:
    days = ["2024-03-01", "01.03.2024"]
    rows = [row(i, f"on {days[i % 10 == 0]} please", json.dumps({"day": days[i % 10 == 0]})) for i in range(60)]
    assert find(rows) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-31", ("date", "2024-01-31")), ("31/01/2024", ("date", "31/01/2024")), ("Jan 31, 2024", ("date", "Jan 31, 2024")),
        ("31 January 2024", ("date", "31 Jan 2024")), ("9:30 AM", ("time", "9:30 am")), ("21:05", ("time", "09:30")),
        ("$1,200.50", ("amount", "$12.50")), ("12 EUR", ("amount", "12.50 USD")), ("1,234.5", ("number", "1,234.5")),
        ("1.234,50", ("number", "1.234,5")), ("3,5", ("number", "1234,5")), ("Yes", ("truth", "yes/no")),
        ("TRUE", ("truth", "true/false")), ("12 %", ("number", "12 %")), ("next week", None), ("", None), ("A1", None),
    ],
)  # fmt: skip
def test_formats_of_values(text: str, expected: tuple[str, str] | None) -> None:
    assert value_format(text) == expected


def test_spellings_slips_and_styles_of_labels() -> None:
    labels = Labels()
    texts = ["card_arrival"] * 30 + ["Card Arrival"] * 2 + ["lost_card"] * 30 + ["lost_crad"] + ["top_up_failed"] * 30
    texts += ["pin_blocked"] * 30 + ["fee_charged"] * 30 + ["cash_limit"] * 30 + ["rate_wrong"] * 30 + ["New-Card"] * 2
    for position, text in enumerate(texts):
        labels.add(position, text)
    found = {one.kind: one for one in spelling_deviations(labels)}
    assert set(found) == {"label-spelling", "label-slip", "label-style"}
    assert "'card_arrival'" in found["label-spelling"].says and len(found["label-spelling"].positions) == 2
    assert "'lost_card'" in found["label-slip"].says and "'new_card'" in found["label-style"].says
    assert not any(one.safe for one in found.values())


def test_like_labels_that_both_are_common_are_two_labels() -> None:
    labels = Labels()
    for position, text in enumerate(["timer", "time", "form", "from", "v1", "v2"] * 20):
        labels.add(position, text)
    assert list(spelling_deviations(labels)) == []


def test_the_house_style_and_a_label_put_into_it() -> None:
    assert house_style(Counter(["a_b", "c_d", "e", "f_g_h", "i_j"])) == Style("_", "lower")
    assert house_style(Counter(["a_b", "C D", "e-f", "G", "hI", "j k"])) is None
    assert restyled("Card-Not Working?", Style("_", "lower")) == "card_not_working?"
    assert restyled("card_arrival", Style(" ", "title")) == "Card Arrival"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("How can I see what the status of my order is and how it was sent?", "English"),
        ("Wie kann ich sehen, ob die Bestellung schon auf dem Weg ist und wann es ankommt?", "German"),
        ("Je ne vois pas le paiement sur mon compte, est-ce que vous pouvez aider dans ce cas ?", "French"),
        ("No puedo ver el pago en mi cuenta, como puede ser que no est\u00e1 en la lista", "Spanish"),
        ("\u042f \u043d\u0435 \u0432\u0438\u0436\u0443 \u043f\u043b\u0430\u0442\u0435\u0436", "Russian or another in Cyrillic"),
        ("\u6211\u770b\u4e0d\u5230\u4ed8\u6b3e", "Chinese"),
        ("\u652f\u6255\u3044\u304c\u898b\u3048\u307e\u305b\u3093", "Japanese"),
        ("card_arrival", None), ("Natalia 48/2 = 24", None), ("", None),
    ],
)  # fmt: skip
def test_languages(text: str, name: str | None) -> None:
    assert language(text) == name


def test_an_answer_in_another_language_than_its_question_is_a_warning() -> None:
    asked = "How can I see what the status of my order is and when was it sent?"
    said = "You can see the status of your order in the list that is on the first page."
    rows = [row(i, asked, f"{said} Number {i}.") for i in range(30)]
    german = "Sie k\u00f6nnen den Status auf der Seite sehen, die wir mit der Mail und im Brief schicken."
    found = {one.kind: one for one in find([*rows, row(30, asked, german)])}
    assert lines(found["answer-language"]) == [30] and found["answer-language"].severity == "warning"
    assert found["mixed-languages"].severity == "info"
    translations = [row(i, f"{said} Number {i}.", f"{german} Nummer {i}.") for i in range(30)]
    assert find(translations) == []


def test_system_prompts_that_differ_or_are_missing() -> None:
    usual = "You sort mail."
    rows = [row(i, f"q{i}", f"text number {i} and more words", usual) for i in range(40)]
    rows[3], rows[5], rows[7] = (
        row(at, f"q{at}", f"text number {at} and more words", prompt)
        for at, prompt in [(3, "You sort mail"), (5, None), (7, "You are a pirate.")]
    )
    found = {one.kind: (one.severity, lines(one)) for one in find(rows)}
    assert found == {
        "system-prompt-spelling": ("warning", [3]),
        "system-prompt-missing": ("warning", [5]),
        "system-prompt-other": ("info", [7]),
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=4), json_values, max_size=4), min_size=10, max_size=14))
def test_any_json_is_looked_at_without_trouble(values: list[JsonObject]) -> None:
    rows = [row(i, f"q{i}", json.dumps(value)) for i, value in enumerate(values)]
    assert all(set(one.rows) <= {row.id for row in rows} for one in find(rows))


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=4), json_values, min_size=1, max_size=4))
def test_every_text_leaf_outside_lists_can_be_set_at_its_path(value: JsonObject) -> None:
    paths = [path for path, leaf in scalars(value) if isinstance(leaf, str) and "[]" not in path]
    if len(set(paths)) == len(paths):
        for path in paths:
            mended = dict(scalars(json.loads(with_value(json.dumps(value), path, "new"))))
            assert mended[path] == "new"
