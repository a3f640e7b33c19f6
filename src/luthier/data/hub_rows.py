"""Rows of a data set on the Hugging Face hub, streamed; needs the `datasets` extra and a network."""

from collections.abc import Iterator

from luthier.core.errors import DataError
from luthier.core.types import JsonObject

PREFIX = "hub:"


def hub_rows(name: str) -> Iterator[JsonObject]:
    """Yield the training rows of `hub:<id>`; no code from the hub is run.

    Raises DataError when the extra is missing or the data set cannot be had.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DataError(
            f"{name} needs the datasets extra, which is not installed: pip install 'luthier[datasets]'"
        ) from error
    try:
        yield from datasets.load_dataset(name.removeprefix(PREFIX), split="train", streaming=True)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{name} cannot be read from the hub: {error}. Check the id and the network, or give a local file."
        ) from error
