"""Parquet to records, batch by batch; nested values become what JSON would have held.

A few bytes can stand for many long texts, so no more rows are unpacked at once than fit in some dozen megabytes.
"""

import base64
import datetime
import decimal
import math
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luthier.core.errors import DataError
from luthier.core.types import JsonObject, JsonValue
from luthier.data.records import Record, Records
from luthier.data.sources import Source, ensure_no_bomb

BATCH_ROWS = 1000
BATCH_BYTES = 64 << 20


def parquet_rows(source: Source) -> Records:
    """Read a Parquet file; it has no lines, so a record's number stands for its line."""
    try:
        metadata = pq.read_metadata(source.path)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        texts = _text_columns(metadata.schema)
        file = pq.ParquetFile(source.path, read_dictionary=texts)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source.name} is not a readable Parquet file: {str(error).rstrip('.')}.") from error
    for group in groups:
        ensure_no_bomb(source, group.total_byte_size, source.path.stat().st_size)
    return Records(
        f"Parquet, columns {', '.join(file.schema_arrow.names)}", _records(source, file, _num_at_once(groups))
    )


def _records(source: Source, file: pq.ParquetFile, num_at_once: int) -> Iterator[Record]:
    number = 0
    try:
        for batch in file.iter_batches(batch_size=num_at_once):
            for row in _rows(batch):
                number += 1
                yield Record(number, _json_object(row))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source.name} cannot be read after row {number}: {error}.") from error


def _text_columns(schema: pq.ParquetSchema) -> list[str]:
    """Name the plain columns of text; they are read as their different values and the number of each row's."""
    columns = (schema.column(place) for place in range(len(schema.names)))
    return [column.name for column in columns if column.path == column.name and column.logical_type.type == "STRING"]


def _num_at_once(groups: Sequence[pq.RowGroupMetaData]) -> int:
    """Return how many rows may be read at once, by the size that each group of rows unpacks to."""
    longest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=1.0)
    return int(min(BATCH_ROWS, max(1.0, BATCH_BYTES / max(1.0, longest))))


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, object]]:
    """Yield the rows; where a numbered text is long, a few at a time."""
    numbered = [column for column in batch.columns if pa.types.is_dictionary(column.type)]
    longest = sum(_longest(column.dictionary) for column in numbered)
    step = int(min(BATCH_ROWS, max(1, BATCH_BYTES // max(1, longest))))
    for start in range(0, len(batch), step):
        yield from batch.slice(start, step).to_pylist()


def _longest(texts: pa.Array) -> int:
    """Return the bytes of the longest text."""
    lengths = pc.binary_length(texts)  # pyright: ignore[reportAttributeAccessIssue]
    return pc.max(lengths).as_py() or 0  # pyright: ignore[reportAttributeAccessIssue]


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
