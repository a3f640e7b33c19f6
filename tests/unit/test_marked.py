"""What differs between two texts is marked, what is missing is struck out, and nothing gets past the escaping."""

from luthier.verdict.marked import marked


def test_other_words_are_marked_and_missing_ones_struck_out() -> None:
    assert marked("the red hat", "the blue hat") == "the <mark>red</mark> hat"
    assert marked("the hat", "the blue hat") == "the <del>blue </del>hat"
    assert marked("the blue blue hat", "the blue hat").count("<mark>") == 1
    assert marked("the hat", "the hat") == "the hat"
    assert marked("", "wanted") == "<del>wanted</del>"


def test_what_is_missing_is_cut_where_it_is_long_and_escaped() -> None:
    struck = marked("a", "a " + "<b>" * 100)
    assert "<b>" not in struck and struck.endswith("\u2026</del>") and len(struck) < 500


def test_very_long_texts_come_without_marks() -> None:
    assert marked("x " * 900, "y " * 900) == "x " * 900
