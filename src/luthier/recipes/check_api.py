"""`luthier.check` and `luthier.split`: the commands from Python. Loads no torch unless a model is named."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from luthier.config.load import load
from luthier.config.settings import Settings
from luthier.core.types import JsonObject, JsonValue
from luthier.data.health import Diagnosis
from luthier.recipes import check as recipe
from luthier.recipes import mend
from luthier.recipes import split as split_recipe
from luthier.recipes.check_words import as_json, as_text
from luthier.recipes.prepare import Source
from luthier.recipes.voice import Voice
from luthier.verdict.check_page import check_page, write_check_page

Rows = Iterable[JsonObject]
Paths = Sequence[str | Path]


class Checkup:
    """What a look at data has shown. Printing it says what `luthier check` prints; a notebook shows the page."""

    def __init__(self, diagnosis: Diagnosis, title: str, written: Mapping[str, int] | None = None) -> None:
        self._diagnosis, self._title = diagnosis, title
        self.written = None if written is None else dict(written)
        """With `fix`: how many rows were read, written as they are, fixed, dropped and set aside."""

    @property
    def rows(self) -> int:
        """How many rows there are, usable or not."""
        return self._diagnosis.num_rows

    @property
    def health(self) -> dict[str, float | None]:
        """By dimension, the share of rows that nothing worse than a hint touches; None where no check looked."""
        return {**self._diagnosis.health}

    @property
    def healthy(self) -> bool:
        """Whether every dimension is within its limit."""
        return not self._diagnosis.crossed

    @property
    def findings(self) -> list[JsonObject]:
        """The findings, worst first, as `luthier check --json` prints them."""
        findings = self.as_json()["findings"]
        assert isinstance(findings, list)
        return findings  # type: ignore[return-value]  # lists of JSON are JSON, which a checker reads invariantly

    def as_json(self) -> JsonObject:
        """Return what `luthier check --json` prints."""
        return as_json(self._diagnosis)

    def save_report(self, to: str | Path) -> Path:
        """Write the findings as one HTML page and return its path."""
        return write_check_page(Path(to), self._diagnosis, self._title)

    def __str__(self) -> str:
        return as_text(self._diagnosis)

    def __repr__(self) -> str:
        outcome = "healthy" if self.healthy else f"below the limit: {', '.join(self._diagnosis.crossed)}"
        return f"Checkup({self._title!r}, {self.rows:,} rows, {outcome})"

    def _repr_html_(self) -> str:
        return check_page(self._diagnosis, self._title)


def check(
    rows_or_path: Rows | str | Path | None = None,
    *,
    model: str | Path | None = None,
    input: str | None = None,
    output: str | Sequence[str] | None = None,
    test: str | Path | None = None,
    validation: str | Path | None = None,
    group: str | None = None,
    fix: str | Path | None = None,
    cache: bool = True,
    config: Paths = (),
    settings: Mapping[str, JsonValue] | None = None,
    quiet: bool = False,
) -> Checkup:
    """Find what is wrong with data before training on it, as `luthier check` does.

    The arguments are those of `luthier.run`; `fix` is a file to write the rows to, mended. What was found in files is kept
    and used again unless `cache` is False; rows from Python are looked at anew each time, and nothing of them is kept.
    Nothing raises for bad data but data of which no row can be used.
    """
    chosen = _settings(config, settings, _flags(input, output, test, validation, group) | {"model.name": _text(model)})
    source, voice = _source(rows_or_path), Voice(quiet=quiet)
    title = str(source) if isinstance(source, str | Path) else chosen.data.path or "rows from Python"
    if fix is None:
        return Checkup(recipe.check(source, chosen, voice, use_cache=cache), title)
    diagnosis, sums = mend.check_and_fix(source, chosen, Path(fix), voice)
    return Checkup(diagnosis, title, sums)


def split(
    rows_or_path: Rows | str | Path | None = None,
    *,
    out: str | Path,
    input: str | None = None,
    output: str | Sequence[str] | None = None,
    test: str | Path | None = None,
    validation: str | Path | None = None,
    group: str | None = None,
    config: Paths = (),
    settings: Mapping[str, JsonValue] | None = None,
    quiet: bool = False,
) -> JsonObject:
    """Write training, validation and test parts to the folder `out`, as `luthier split` does; return the certificate."""
    chosen = _settings(config, settings, _flags(input, output, test, validation, group))
    return split_recipe.split(_source(rows_or_path), chosen, Path(out), Voice(quiet=quiet))


def _flags(
    input: str | None, output: str | Sequence[str] | None, test: str | Path | None, validation: str | Path | None,
    group: str | None,
) -> JsonObject:  # fmt: skip
    columns = output.split(",") if isinstance(output, str) else output
    return {
        "data.input": input, "data.output": None if columns is None else [*columns], "data.test": _text(test),
        "data.validation": _text(validation), "data.group": group,
    }  # fmt: skip


def _settings(config: Paths, settings: Mapping[str, JsonValue] | None, flags: JsonObject) -> Settings:
    assignments = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in (settings or {}).items()]
    return load([Path(file) for file in config], assignments, flags)


def _source(rows_or_path: Rows | str | Path | None) -> Source | None:
    """Return rows in a container that can be gone through more than once."""
    return rows_or_path if isinstance(rows_or_path, str | Path | None) else list(rows_or_path)


def _text(value: str | Path | None) -> str | None:
    return None if value is None else str(value)
