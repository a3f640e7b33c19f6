"""What lies at OpenAI, or at a server that speaks as OpenAI does: finished fine-tuning jobs and their files. It is only read.

The key goes nowhere but to the address that the user named: redirects are refused, and no message repeats it.
"""

import json
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from luthier.core.endpoint import NoRedirect
from luthier.core.errors import RunFailed, SettingsError
from luthier.core.types import JsonObject

_SECONDS = 60.0
_PAGE = 100
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Tuned:
    """A finished job: the model that it made, what from, and how. `method` is `supervised` where it can be done again here."""

    id: str
    base: str
    model: str
    method: str
    hyperparameters: JsonObject
    seed: int
    training_file: str
    validation_file: str | None


class Account:
    """Reads one account; raises RunFailed where the server refuses or is away."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise SettingsError(
                "--base-url: expected http://host/v1 or https://host/v1, without a name or password in it."
            )
        self.url, self._key = url.rstrip("/"), key
        self._opener = urllib.request.build_opener(NoRedirect())

    def tuned(self) -> list[Tuned]:
        """Return all jobs that ended with a model, newest first."""
        found: list[Tuned] = []
        after: str | None = None
        while True:
            query = {"limit": str(_PAGE)} | ({} if after is None else {"after": after})
            page = self._json(f"fine_tuning/jobs?{urlencode(query)}")
            jobs = page.get("data")
            assert isinstance(jobs, list)
            found += [_tuned(job) for job in jobs if isinstance(job, dict) and job.get("fine_tuned_model")]
            if not page.get("has_more") or not jobs:
                return found
            last = jobs[-1]
            assert isinstance(last, dict)
            after = str(last["id"])

    def size(self, file_id: str) -> int | None:
        """Return how many bytes a file has; None when it is there no more."""
        try:
            return int(str(self._json(f"files/{file_id}")["bytes"]))
        except _Gone:
            return None

    def fetch(self, file_id: str, target: Path) -> None:
        """Write a file's bytes to `target`, whole or not at all; what is there already is not fetched again."""
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.arriving")
        with self._opened(f"files/{file_id}/content") as response, beside.open("wb") as stream:
            shutil.copyfileobj(response, stream)
            wanted = response.headers.get("Content-Length")
        if wanted is not None and beside.stat().st_size != int(wanted):
            raise RunFailed(
                f"{file_id} broke off at {beside.stat().st_size:,} of {int(wanted):,} bytes; call the same command again."
            )
        beside.rename(target)

    def _json(self, path: str) -> JsonObject:
        with self._opened(path) as response:
            data = response.read()
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise RunFailed(f"{self.url}/{path} did not answer as OpenAI does. Is --base-url the address up to /v1?")
        return found

    def _opened(self, path: str) -> HTTPResponse:
        headers = {"Authorization": f"Bearer {self._key}", "User-Agent": "luthier"}
        request = urllib.request.Request(f"{self.url}/{path}", headers=headers)  # noqa: S310 - only http and https get here
        try:
            return self._opener.open(request, timeout=_SECONDS)
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", "replace")[:_SHOWN].replace(self._key, "...")
            if error.code == 404:
                raise _Gone(f"{self.url}/{path} is not there: {said}") from None
            raise RunFailed(f"{self.url}/{path} answered with status {error.code}: {said}") from None
        except (OSError, HTTPException) as error:
            raise RunFailed(f"{self.url} cannot be reached: {error}. Call the same command again later.") from error


class _Gone(RunFailed):
    """What was asked for is not there."""


def _tuned(job: JsonObject) -> Tuned:
    method = job.get("method")
    kind = str(method.get("type")) if isinstance(method, dict) else "supervised"
    inner = method.get(kind) if isinstance(method, dict) else None
    asked = inner.get("hyperparameters") if isinstance(inner, dict) else None
    chosen = asked or job.get("hyperparameters") or {}
    validation = job.get("validation_file")
    return Tuned(
        str(job["id"]), str(job["model"]), str(job["fine_tuned_model"]), kind, chosen if isinstance(chosen, dict) else {},
        int(str(job.get("seed") or 0)), str(job["training_file"]), None if validation is None else str(validation),
    )  # fmt: skip
