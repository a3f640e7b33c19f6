"""Names by presidio: asked for by a setting, about a bounded sample, with the model that is there or a clear error."""

import importlib.util
from pathlib import Path

import pytest

from luthier.config.settings import CheckSettings
from luthier.core.errors import SettingsError
from luthier.core.types import Conversation, Finding, Message, Row
from luthier.data.checking import context_of
from luthier.data.checks.private import Check
from luthier.data.examine import examine
from luthier.data.presidio_names import MOST_CHARACTERS, MOST_ROWS, NamesInSample, name_finder

PRESIDIO = importlib.util.find_spec("presidio_analyzer") is not None
with_presidio = pytest.mark.skipif(not PRESIDIO, reason="the private extra is not installed")


def row(number: int, text: str) -> Row:
    content = Conversation((Message("user", text), Message("assistant", "Done.")))
    return Row(f"id{number}", "a.jsonl", number + 1, number, content)


def find_ana(text: str) -> set[str]:
    return {"person"} if "Ana" in text else set()


def findings_of(rows: list[Row]) -> list[Finding]:
    names = NamesInSample(find_ana, rows.__getitem__)
    for position, one in enumerate(rows):
        names.see(position, one)
    return list(names.findings("private"))


def test_rows_with_names_are_hints_with_the_size_of_the_sample():
    (finding,) = findings_of([row(0, "Ask Ana"), row(1, "Ask me"), row(2, "Ana again")])
    assert (finding.kind, finding.severity, finding.rows) == ("person", "info", ("id0", "id2"))
    assert finding.detail.startswith("2 rows name a person, of the 3 that presidio was asked about: a.jsonl:1")
    assert not finding.repairs, "replacing names in a sample alone would leave the rest as they are"


def test_at_most_the_stated_number_of_rows_is_looked_at_and_of_each_the_beginning():
    (finding,) = findings_of([row(number, "Ask Ana") for number in range(4 * MOST_ROWS)])
    assert MOST_ROWS / 4 < len(finding.rows) <= MOST_ROWS
    assert f"of the {len(finding.rows):,} that" in finding.detail
    assert not findings_of([row(0, "x" * MOST_CHARACTERS + "Ana")])


def checked(texts: list[str], model: str | None) -> list[Finding]:
    rows = [row(number, text) for number, text in enumerate(texts)]
    return examine({"private": Check(context_of(rows, CheckSettings(presidio=model)))}, rows)["private"]


@pytest.mark.skipif(PRESIDIO, reason="the private extra is installed")
def test_without_the_extra_the_setting_says_how_to_get_it():
    with pytest.raises(SettingsError, match=r"check\.presidio .*pip install 'luthier\[private\]'"):
        checked(["Ask Ana"], "en_core_web_sm")


def test_nobody_is_asked_where_the_setting_is_absent():
    assert not checked(["Ask Ana Gomez in Lisbon"], None)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A spaCy model without weights: a table of names in place of a network, saved as any model is."""
    spacy = pytest.importorskip("spacy")
    pipeline = spacy.blank("en")
    names = [{"label": "PERSON", "pattern": "Ana Gomez"}, {"label": "GPE", "pattern": "Lisbon"}]
    pipeline.add_pipe("entity_ruler").add_patterns(names)
    pipeline.to_disk(tmp_path / "model")
    return str(tmp_path / "model")


@with_presidio
def test_presidio_finds_people_and_places_beside_our_own_patterns(model: str):
    found = checked(["Ask Ana Gomez", "It rains in Lisbon", "ana@example.org", "Ask me"], model)
    assert {finding.kind: finding.rows for finding in found} == {
        "email": ("id2",), "person": ("id0",), "place": ("id1",),
    }  # fmt: skip


@with_presidio
def test_a_model_that_is_not_there_is_an_error_and_no_download(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"there is no spaCy model .*python -m spacy download"):
        name_finder(str(tmp_path / "none"))
