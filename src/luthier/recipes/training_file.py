"""Look at the files of a job before anything is trained: every fault with its line, its byte offset and its rule."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from luthier.config.settings import DataSettings
from luthier.core.errors import DataError
from luthier.core.types import JsonObject, Rejected
from luthier.data.formats import openai
from luthier.data.json_rows import parse_json
from luthier.data.problems import RowProblem
from luthier.data.read import read

FORMAT = "openai"
FEWEST_ROWS = 10
_MOST_SHOWN = 100
_MOST_NAMED = 5
_NO_PLACE = -1
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True, slots=True)
class Fault:
    """One line that cannot be used; lines count from 1, bytes from 0, `pointer` is the JSON pointer to what is wrong in it."""

    line: int
    byte_offset: int
    pointer: str
    rule: str
    detail: str

    def as_event(self) -> JsonObject:
        """Return the fault as the data of a job's event."""
        at = f" at {self.pointer}" if self.pointer else ""
        message = f"line {self.line} (byte {self.byte_offset}){at}: {self.rule}: {self.detail}"
        return {
            "message": message, "line": self.line, "byte_offset": self.byte_offset, "pointer": self.pointer,
            "rule": self.rule, "detail": self.detail,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a file is worth: its usable rows, or `error` as the API writes it, with the first faults."""

    num_rows: int
    error: JsonObject | None = None
    faults: tuple[Fault, ...] = ()


def examine(path: Path, param: str) -> Verdict:
    """Read a file as the training would; `param` is the argument that named it."""
    rejected: list[Rejected] = []
    num_rows = num_bad = 0
    with path.open("rb") as stream:
        if stream.read(4).startswith(_COMPRESSED):
            return Verdict(0, _error(param, "the file is compressed; expected plain JSON lines in UTF-8"))
    try:
        for row in read(str(path), DataSettings(format=FORMAT), lambda words: None):
            if not isinstance(row, Rejected):
                num_rows += 1
                continue
            num_bad += 1
            if len(rejected) < _MOST_SHOWN:
                rejected.append(row)
    except DataError as error:
        return Verdict(0, _error(param, str(error).replace(str(path), "the file").replace(path.name, "the file")))
    if num_bad:
        faults = tuple(_placed(path, rejected))
        return Verdict(num_rows, _error(param, _summary(param, num_bad, num_rows + num_bad, faults)), faults)
    fewest = FEWEST_ROWS if param == "training_file" else 1
    if num_rows < fewest:
        kind = "Training" if param == "training_file" else "Validation"
        message = f"{kind} file has {num_rows} example(s), but must have at least {fewest} examples"
        return Verdict(num_rows, {"code": "invalid_n_examples", "message": message, "param": param})
    return Verdict(num_rows)


def _error(param: str, message: str) -> JsonObject:
    return {"code": f"invalid_{param}", "message": message, "param": param}


def _summary(param: str, num_bad: int, num_rows: int, faults: tuple[Fault, ...]) -> str:
    named = "; ".join(str(fault.as_event()["message"]) for fault in faults[:_MOST_NAMED])
    more = f"; and {num_bad - _MOST_NAMED} more" if num_bad > _MOST_NAMED else ""
    return f"{num_bad} of {num_rows} lines of the {param.replace('_', ' ')} cannot be used: {named}{more}"


def _placed(path: Path, rejected: list[Rejected]) -> Iterator[Fault]:
    """Find the byte at which each faulty line begins, and the value in it that is wrong."""
    wanted = {row.line for row in rejected}
    places: dict[int, tuple[int, str]] = {}
    offset = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if number in wanted:
                places[number] = (offset, _pointer(line))
            offset += len(line)
    for row in rejected:
        yield Fault(row.line, *places.get(row.line, (_NO_PLACE, "")), row.rule, row.detail)


def _pointer(line: bytes) -> str:
    """Return the JSON pointer to what is wrong in a line; empty where it is the line as a whole."""
    try:
        row = parse_json(line.decode())
        if isinstance(row, dict):
            openai.read(row)
    except RowProblem as problem:
        return problem.pointer
    except UnicodeDecodeError:
        pass
    return ""
