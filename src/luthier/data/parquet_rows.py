"""Parquet to records, batch by batch; nested values become what JSON would have held."""

import base64
import datetime
import decimal
import math
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from luthier.core.errors import DataError
from luthier.core.types import JsonObject, JsonValue
from luthier.data.records import Record, Records
from luthier.data.sources import Source

BATCH_ROWS = 1000


def parquet_rows(source: Source) -> Records:
    """Read a Parquet file; it has no lines, so a record's number stands for its line."""
    try:
        file = pq.ParquetFile(source.path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source.name} is not a readable Parquet file: {error}.") from error
    return Records(f"Parquet, columns {', '.join(file.schema_arrow.names)}", _records(source, file))


def _records(source: Source, file: pq.ParquetFile) -> Iterator[Record]:
    number = 0
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield Record(number, _json_object(row))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source.name} cannot be read after row {number}: {error}.") from error


def _json_object(row: dict[str, object]) -> JsonObject:
    return {key: _json_value(value) for key, value in row.items()}


def _json_value(value: object) -> JsonValue:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None  # pandas writes absent values as NaN
        case list() | tuple():
            return [_json_value(item) for item in value]
        case dict():
            return {str(key): _json_value(item) for key, item in value.items()}
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case datetime.date() | datetime.time():
            return value.isoformat()
        case decimal.Decimal() | datetime.timedelta():
            return str(value)
        case _:
            return str(value)
