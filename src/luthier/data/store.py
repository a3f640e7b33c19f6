"""Rows to Parquet and back, exactly.

The content is one column of JSON text: Arrow would merge the shapes of all tool calls into one
and fill the gaps with nulls, so that a call reads back with arguments that nobody wrote.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from luthier.core.types import Content, Conversation, JsonObject, JsonValue, Message, Preference, Row, Text, UnreadKey

# Small enough that one row can be fetched alone in milliseconds.
GROUP_ROWS = 2_000
_GROUP_CHARACTERS = 64 << 20
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("record", pa.int64(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("content", pa.string(), nullable=False),
        pa.field("unread", pa.string()),
    ]
)


class RowWriter:
    """Writes rows to `path`, which appears whole on closing and not at all after an error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        self._writer = pq.ParquetWriter(self._unfinished, SCHEMA, compression="zstd")
        self._rows: list[JsonObject] = []
        self._num_characters = 0

    def write(self, row: Row) -> None:
        """Add a row."""
        content = content_json(row.content)
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        self._num_characters += len(text)
        self._rows.append(
            {
                "id": row.id,
                "file": row.file,
                "line": row.line,
                "record": row.record,
                "group": row.group,
                "kind": content["kind"],
                "content": text,
                "unread": json.dumps(row.unread, ensure_ascii=False) if row.unread else None,
            }
        )
        if len(self._rows) == GROUP_ROWS or self._num_characters > _GROUP_CHARACTERS:
            self._flush()

    def close(self) -> None:
        """Write what is left and give the file its name."""
        self._flush()
        self._writer.close()
        os.replace(self._unfinished, self._path)

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._writer.close()
            self._unfinished.unlink()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
            self._rows.clear()
            self._num_characters = 0


def read_stored(path: Path) -> Iterator[Row]:
    """Yield the rows of a stored file in order, one row group in memory at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            for stored in file.read_row_group(group).to_pylist():
                yield stored_row(stored)


def stored_row(stored: JsonObject) -> Row:
    """Return the row that an entry of a stored file holds; files of older versions have no `unread`."""
    entry: dict[str, Any] = stored  # as `RowWriter` wrote it
    content = content_from_json(json.loads(entry["content"]))
    kept = entry.get("unread")
    unread = () if kept is None else tuple(UnreadKey(*entry) for entry in json.loads(kept))
    return Row(entry["id"], entry["file"], entry["line"], entry["record"], content, entry["group"], unread)


def count_stored(path: Path) -> int:
    """Return how many rows a stored file holds, without reading them."""
    return pq.read_metadata(path).num_rows


def content_json(content: Content) -> JsonObject:
    """Return content as JSON: its `kind` and its parts."""
    match content:
        case Conversation():
            return {"kind": "conversation", "messages": _dicts(content.messages), "tools": list(content.tools)}
        case Preference():
            return {
                "kind": "preference",
                "prompt": _dicts(content.prompt),
                "chosen": _dicts(content.chosen),
                "rejected": _dicts(content.rejected),
                "tools": list(content.tools),
            }
        case Text():
            return {"kind": "text", "text": content.text}


def content_from_json(value: JsonObject) -> Content:
    """Return the content that `content_json` wrote."""
    written: dict[str, Any] = value
    tools = tuple(written.get("tools", ()))
    match written["kind"]:
        case "conversation":
            return Conversation(_messages(written["messages"]), tools)
        case "preference":
            prompt, chosen, rejected = (_messages(written[side]) for side in ("prompt", "chosen", "rejected"))
            return Preference(prompt, chosen, rejected, tools)
        case "text":
            return Text(written["text"])
        case kind:
            raise AssertionError(f"content of unknown kind {kind!r}")


def _dicts(messages: tuple[Message, ...]) -> list[JsonValue]:
    return [message.as_dict() for message in messages]


def _messages(dicts: Iterable[JsonObject]) -> tuple[Message, ...]:
    turns: Iterable[dict[str, Any]] = dicts
    return tuple(
        Message(
            role=turn["role"],
            content=turn["content"],
            weight=turn.get("weight", 1),
            reasoning=turn.get("reasoning_content"),
            tool_calls=tuple(turn.get("tool_calls", ())),
            tool_call_id=turn.get("tool_call_id"),
            name=turn.get("name"),
        )
        for turn in turns
    )
