"""`luthier.plan`: what a training would take, from Python."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from luthier.config.load import load
from luthier.core.types import JsonObject, JsonValue
from luthier.recipes import forecast
from luthier.recipes.api import assignments_of, data_flags, own_bars
from luthier.recipes.voice import Voice


def plan(
    rows_or_path: Iterable[JsonObject] | str | Path | None = None,
    *,
    model: str | Path | None = None,
    method: str | None = None,
    gpus: Sequence[str] = (),
    price: float | None = None,
    input: str | None = None,
    output: str | Sequence[str] | None = None,
    config: Sequence[str | Path] = (),
    settings: Mapping[str, JsonValue] | None = None,
    quiet: bool = False,
) -> JsonObject:
    """Say what a training on these rows would take, as `luthier plan` does; nothing is trained, downloaded weights are not needed.

    The result is what the command prints with `--json`. `gpus` are names such as `h100`, with a price for the hour as
    `h100=2.5`; `price` is that of every machine without one of its own.
    """
    flags = data_flags(model, input, output) | {"train.method": method}
    chosen = load([Path(file) for file in config], assignments_of(settings), flags)
    source = rows_or_path if isinstance(rows_or_path, str | Path | None) else list(rows_or_path)
    with own_bars():
        return forecast.plan(source, chosen, gpus, price, Voice(quiet=quiet))
