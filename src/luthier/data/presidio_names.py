"""Names of people and places in texts: what presidio (an extra) recognizes with a spaCy model that the user names.

A model's word is a lead, not a proof: it takes products for people, and misses names that are written small. It is slow
too, so it is asked about a sample only. Nothing is downloaded. Only the two kinds that have no shape are asked for; for
the others our own patterns are surer and faster.
"""

from collections.abc import Callable, Collection, Iterator

from luthier.core.errors import SettingsError
from luthier.core.types import Finding, Row
from luthier.data.gathered import Fault, Gathered
from luthier.data.passages import passages
from luthier.data.sampled import Sampled

FindNames = Callable[[str], Collection[str]]
MOST_ROWS = 1_000
MOST_CHARACTERS = 2_000
_KINDS = {"PERSON": "person", "LOCATION": "place"}


class NamesInSample:
    """Keeps the positions of at most 1,000 rows, an even sample, and has the beginning of each looked at in the end."""

    def __init__(self, find: FindNames, row_at: Callable[[int], Row]) -> None:
        self._find = find
        self._row_at = row_at
        self._positions: Sampled[int] = Sampled(MOST_ROWS)

    def see(self, position: int, row: Row) -> None:
        """Offer a row to the sample."""
        self._positions.add(row.id, position)

    def findings(self, check: str) -> Iterator[Finding]:
        """Yield one finding for people and one for places; both are hints, for what is named may well be public."""
        found, positions = Gathered(), self._positions.values
        for position in positions:
            row = self._row_at(position)
            for kind in sorted(self._find(_beginning(row))):
                found.add(kind, row)
        of_how_many = f"of the {len(positions):,} that presidio was asked about"
        yield from found.findings(
            check,
            {
                kind: Fault("info", _CONFIDENCE, f"name a {kind}, {of_how_many}", f"Read them: {_FIX}")
                for kind in _KINDS.values()
            },
        )


def name_finder(model: str) -> FindNames:
    """Return what tells the kinds of names in a text, by an installed spaCy model or a model folder, in its language.

    Raises SettingsError when the extra or the model is not installed.
    """
    try:
        import spacy  # pyright: ignore[reportMissingImports]
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry  # pyright: ignore[reportMissingImports]
        from presidio_analyzer.nlp_engine import SpacyNlpEngine  # pyright: ignore[reportMissingImports]
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise SettingsError(
            "check.presidio needs the private extra, which is not installed: pip install 'luthier[private]'"
        ) from error
    try:
        pipeline = spacy.load(model)
    except OSError as error:
        raise SettingsError(
            f"check.presidio: there is no spaCy model {model!r} here. Install it (python -m spacy download {model}), or name "
            "a folder that holds one."
        ) from error
    # An engine that has its pipeline loads none: presidio would download what it does not find.
    engine = SpacyNlpEngine(models=[{"lang_code": pipeline.lang, "model_name": model}])
    engine.nlp = {pipeline.lang: pipeline}
    # A registry of its own: those that presidio predefines ask the network for lists of domains.
    registry = RecognizerRegistry(
        [SpacyRecognizer(supported_language=pipeline.lang)], supported_languages=[pipeline.lang]
    )
    analyzer = AnalyzerEngine(registry, engine, supported_languages=[pipeline.lang])

    def find(text: str) -> set[str]:
        return {_KINDS[one.entity_type] for one in analyzer.analyze(text, pipeline.lang, [*_KINDS])}

    return find


# Nobody has judged what the user's model finds; it is a lead.
_CONFIDENCE = 0.5
_FIX = "where the names are of private people, replace them in all rows, not in these alone."


def _beginning(row: Row) -> str:
    return "\n".join(passage.text for passage in passages(row.content))[:MOST_CHARACTERS]
