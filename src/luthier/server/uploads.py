"""A multipart body, written to the disk as it arrives: nothing of a file is held in memory."""

import hashlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from luthier.jobs.files import Arrived
from luthier.server.bodies import chunks
from luthier.server.control import control_of
from luthier.server.errors import ApiError

_MOST_PARTS, _MOST_HEADERS, _HEADER_BYTES, _FIELD_BYTES = 16, 8, 4096, 4096
_ENVELOPE_BYTES = 1 << 16
_NAME_LENGTH = 255


class Form:
    """The fields of a form and the one file in it, which lies in the data folder."""

    def __init__(self, boundary: bytes, path: Path, most_file_bytes: int) -> None:
        self._parser = MultipartParser(boundary, {
            "on_part_begin": self._part_begins, "on_part_data": self._part_data, "on_part_end": self._part_ends,
            "on_header_field": self._header_name, "on_header_value": self._header_value, "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end, "on_end": self._end,
        }, max_header_count=_MOST_HEADERS, max_header_size=_HEADER_BYTES)  # fmt: skip
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.is_whole = False
        self._path, self._most = path, most_file_bytes
        self._digest, self._size, self._parts = hashlib.sha256(), 0, 0
        self._file: BinaryIO | None = None
        self._had_file = False
        self._name, self._value, self._header, self._disposition = "", bytearray(), bytearray(), b""
        self._header_text = bytearray()

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the body; raise ApiError when they are no form or go beyond a limit."""
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise ApiError(400, f"The multipart body is malformed: {error}", code="invalid_multipart") from error

    def arrived(self) -> Arrived:
        """Force the file to the disk and return it; raise ApiError when the form is not whole or has no file."""
        if not self.is_whole:
            raise ApiError(400, "The multipart body broke off.", code="invalid_multipart")
        if not self._had_file:
            raise ApiError(400, "Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
        with self._path.open("rb") as stream:
            os.fsync(stream.fileno())
        return Arrived(self._path, self.filename, self._size, self._digest.hexdigest())

    def close(self) -> None:
        """Close the file, whole or not."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise ApiError(400, f"The form has more than {_MOST_PARTS} parts.", code="invalid_multipart")
        self._name, self._value, self._disposition = "", bytearray(), b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_text += data[start:end]

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._header_text)
        self._header, self._header_text = bytearray(), bytearray()

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" not in options:
            return
        if self._name != "file" or self._had_file:
            raise ApiError(400, "Expected one file, in the part 'file'.", param="file", code="invalid_value")
        self.filename = _shown_name(options[b"filename"].decode("utf-8", "replace"))
        self._had_file = True
        self._file = self._path.open("xb")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            self._value += data[start:end]
            if len(self._value) > _FIELD_BYTES:
                raise ApiError(
                    400, f"Invalid '{self._name[:64]}': too long.", param=self._name[:64], code="invalid_value"
                )
            return
        self._size += end - start
        if self._size > self._most:
            raise ApiError(
                413, f"The file is larger than the {self._most} bytes that this server takes.", code="too_large"
            )
        piece = memoryview(data)[start:end]
        self._digest.update(piece)
        self._file.write(piece)

    def _part_ends(self) -> None:
        if self._file is not None:
            self.close()
        elif self._name:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self.is_whole = True


async def receive(request: Request) -> tuple[dict[str, str], Arrived]:
    """Return the fields and the file of a form, which lies on the disk; nothing stays behind after an error."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 70:
        raise ApiError(400, "Expected a body of the type multipart/form-data.", code="invalid_multipart")
    control = control_of(request)
    path = control.folder.incoming / secrets.token_hex(12)
    form = Form(boundary, path, control.serving.file_bytes)
    arrived = None
    try:
        async for chunk in chunks(request, control.serving.file_bytes + _ENVELOPE_BYTES):
            await run_in_threadpool(form.write, chunk)
        arrived = await run_in_threadpool(form.arrived)
        return form.fields, arrived
    finally:
        form.close()
        if arrived is None:
            path.unlink(missing_ok=True)


def _shown_name(name: str) -> str:
    """Return the name under which a file is shown; it is never used to find it."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:_NAME_LENGTH] or "file"
