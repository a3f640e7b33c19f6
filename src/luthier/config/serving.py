"""The settings of `luthier serve`: limits, the names by which clients know models, and what every job starts from."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationError

from luthier.config.load import problems_of, read_yaml
from luthier.config.settings import NotNegative, Positive, PositiveFloat, Section, Settings
from luthier.core.errors import SettingsError
from luthier.core.types import JsonObject


class ServeSettings(Section):
    """What the server allows, and what it starts jobs with."""

    models: dict[str, str] = Field(default_factory=dict[str, str])
    """Names that clients use, such as `gpt-4o-mini-2024-07-18`, each with what it means here: `starter`, a model's folder, a hub id, or a run folder."""
    runs: str | None = None
    """The folder whose finished runs are models for every project, each under its folder's name: `runs` in the working directory when absent, no folder when empty."""
    job: Settings = Settings()
    """The settings that every job starts from, as in a settings file of `luthier train`; what a request says wins."""
    workers: Positive = 1
    """How many jobs train at the same time."""
    threads: Positive | None = None
    """How many cores one training uses; all but one of the machine's, divided by `workers`, when absent."""
    engine_url: str | None = None
    """The address of a vLLM server that answers in the place of Luthier's own engine, such as `http://127.0.0.1:8001`; its key is read from `LUTHIER_ENGINE_KEY`."""
    engines: Positive = 2
    """How many base models answer at the same time; the one that was used least recently makes room for another."""
    engine_bytes: Positive = 16 << 30
    """How much memory the processes of the base models may take together, before those that are idle are ended."""
    engine_threads: Positive | None = None
    """How many cores one base model uses to answer; half of the machine's when absent."""
    adapter_bytes: Positive = 1 << 30
    """How much memory the adapters over one base model may take, before those that nobody asks for are let go."""
    prefix_bytes: NotNegative = 256 << 20
    """How much memory one base model keeps of prompts that it has seen, so that their beginnings are not computed again."""
    answers: Positive = 16
    """How many answers one base model writes at the same time."""
    waiting: Positive = 64
    """How many requests may wait for a base model; the others are told to come again."""
    hosts: tuple[str, ...] = ()
    """Host names by which clients may call, beside those of the address that is served."""
    file_bytes: Positive = 512 << 20
    """The largest file that may be uploaded."""
    stored_bytes: Positive = 64 << 30
    """How much the files of one project may take together."""
    body_bytes: Positive = 1 << 20
    """The largest body of a request that is no upload."""
    unfinished_jobs: Positive = 1000
    """How many jobs of one project may wait or train."""
    unfinished_batches: Positive = 100
    """How many batches of one project may wait or be worked on."""
    batch_requests: Positive = 50_000
    """How many requests one batch may hold."""
    batch_answers: Positive = 8
    """How many requests of batches are answered at the same time, beside those of clients that wait."""
    read_seconds: PositiveFloat = 30.0
    """How long the server waits for the next bytes of a request."""
    drain_seconds: PositiveFloat = 20.0
    """How long a server that is told to stop waits for the answers that it has begun."""
    connections: Positive = 512
    """How many requests are taken at the same time; the others are told to come again."""
    validation_rows: NotNegative = 200
    """From how many rows on some are held out for early stopping, where a job names neither a validation file nor its epochs."""


def load_serving(files: Sequence[Path] = ()) -> ServeSettings:
    """Read the server's settings; a later file's sections replace an earlier one's. Raises SettingsError that lists every problem."""
    tree: JsonObject = {}
    for file in files:
        read = read_yaml(file)
        if not isinstance(read, dict | None):
            raise SettingsError(f"{file}: expected settings such as `workers: 1`, found {type(read).__name__}.")
        tree |= read or {}
    return parse_serving(tree)


def parse_serving(tree: JsonObject) -> ServeSettings:
    """Check the server's settings; raise SettingsError that lists every problem."""
    try:
        return ServeSettings.model_validate(tree)
    except ValidationError as error:
        listed = "\n  ".join(problems_of(error, ServeSettings))
        raise SettingsError(f"the settings of the server cannot be used:\n  {listed}") from error


def as_json(settings: ServeSettings) -> JsonObject:
    """Return the settings as JSON that `parse_serving` reads."""
    return json.loads(settings.model_dump_json(by_alias=True))
