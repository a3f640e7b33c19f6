"""What strangers may put into files, their names and the words beside them (DA02, DA03, DA04, DA06, DA07, UM01, UM12)."""

import gzip
import io
import pickle
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from desks import bench, rows, uploaded
from serving import Served

from luthier.recipes.serve import tuned_name
from luthier.recipes.training_file import examine

GOOD = rows(12)
ROW = GOOD.splitlines()[0]
NAMES = (
    "../x", "..\\x", "/etc/passwd", "C:\\x", "\\\\host\\share\\x", "%2e%2e%2fx", "%252e%252e%252fx", "a\0b", "x" * 300, "e\u0301", "\u00e9",
    "\u202egpj.exe", "CON", "nul.txt", "x.", "x ", "-rf", "--config=x", "a\tb", ".", "..", "", " ", "file:///x", "~root", "$HOME", "`id`", "$(id)",
    "a;b", "a|b", "a&b", "\u2028", "\ufeff", "x/../../y", "....//x", "..;/x", ".lock", "luthier.db", "../luthier.db", "serve.json", "api_key",
)  # fmt: skip
WORDS = (
    "$(touch canary)",
    "`touch canary`",
    "; touch canary",
    "| sh",
    "&& x",
    "--out=/",
    "-rf",
    "../../x",
    "a\nb",
    "'",
    '"',
    "\\",
    "*",
    "\u202e",
    "%s",
    "{0}",
)


class Canary:
    """What a pickle does when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("open('canary', 'w')",)


def zipped(name: str, data: bytes) -> bytes:
    place = io.BytesIO()
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return place.getvalue()


def judged(tmp_path: Path, data: bytes) -> tuple[str, str, list[dict]]:
    """Look at a training file as a worker does: the code, the message, the faults with their places."""
    (tmp_path / "training.jsonl").write_bytes(data)
    verdict = examine(tmp_path / "training.jsonl", "training_file")
    assert verdict.error is not None, "it was taken for good"
    return str(verdict.error["code"]), str(verdict.error["message"]), [fault.as_event() for fault in verdict.faults]


@pytest.mark.parametrize(
    "bad",
    [
        ROW[:-9], ROW[:-1] + b",}", ROW.replace(b'"user"', b"NaN", 1), b"[]", b'"text"', b"// comment", b"\x00" * 40,
        b'{"messages": "x"}', b'{"messages": []}', b'{"messages": [{"role": "user"}]}', b'{"messages": [{"content": "x"}]}',
        b"[" * 100_000, b'{"messages": ' * 50_000, b'{"n": ' + b"9" * 1_000_000 + b"}", b'{"n": 1e999999}',
        b"{" + b",".join(b'"k%d": 1' % n for n in range(200_000)) + b"}", b"\xc0\xaf" + ROW, ROW.replace(b"Where", b"\xff", 1),
        ROW.replace(b"Where", b"\\ud800", 1), ROW.replace(b"Where", b"\xed\xa0\x80", 1), "caf\u00e9".encode("latin-1"),
    ],
    ids=range(21),
)  # fmt: skip
def test_a_bad_line_is_told_by_its_number_its_byte_and_a_rule(tmp_path: Path, bad: bytes):
    before = time.process_time()
    code, message, faults = judged(tmp_path, GOOD + bad + b"\n" + GOOD)
    assert time.process_time() - before < 5, "a bomb was let go off"
    assert code == "invalid_training_file" and "1 of 25 lines" in message, message[:300]
    (fault,) = faults
    assert (fault["line"], fault["byte_offset"]) == (13, len(GOOD)) and fault["rule"]
    assert len(message) < 2000, "the file is repeated in the message"


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Canary()), pickle.dumps(Canary(), protocol=0), zipped("archive/data.pkl", pickle.dumps(Canary())),
        gzip.compress(b"0" * 10_000_000), gzip.compress(gzip.compress(GOOD)), b"\x28\xb5\x2f\xfd" + b"x" * 99, zipped("x", b"0" * 10_000_000),
        b"PAR1" + b"\0" * 99 + b"PAR1", "\n".join(["{}"] * 12).encode("utf-16"), b"", b"\n" * 50, b"\xef\xbb\xbf",
        b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>",
    ],
    ids=range(13),
)  # fmt: skip
def test_what_is_no_list_of_rows_is_refused_and_never_unpacked(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    before = time.process_time()
    code, message, _ = judged(tmp_path, data)
    assert time.process_time() - before < 5
    assert code in ("invalid_training_file", "invalid_n_examples") and str(tmp_path) not in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training.jsonl"], "it was loaded or unpacked"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_file_that_says_its_encoding_is_read_in_it(tmp_path: Path, encoding: str):
    (tmp_path / "training.jsonl").write_bytes(GOOD.decode().encode(encoding))
    assert examine(tmp_path / "training.jsonl", "training_file").num_rows == 12


def test_a_files_name_is_shown_and_never_used(served: Served):
    around = sorted(served.data.parent.rglob("*"))
    outside = {path for path in around if not path.is_relative_to(served.data)}
    client = served.client()
    for name in NAMES:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "").encode()
        body = b'--cut\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--cut\r\n'
        body += b'Content-Disposition: form-data; name="file"; filename="' + quoted + b'"\r\n\r\nx\r\n--cut--\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=cut"}
        status, made, _ = served.call("POST", "/v1/files", body, headers)
        assert status in (200, 400), (name, made)
        if status == 200:
            shown = str(made["filename"])
            assert shown and len(shown) <= 255 and shown.isprintable() and "/" not in shown and "\\" not in shown
            path = served.data / "files" / f"{made['id']}.jsonl"
            assert path.read_bytes() == b"x" and client.files.content(str(made["id"])).read() == b"x"
            client.files.delete(str(made["id"]))
            assert not path.exists()
    assert {path for path in served.data.parent.rglob("*") if not path.is_relative_to(served.data)} == outside
    assert {path.name for path in served.data.iterdir()} <= {
        ".lock", "luthier.db", "luthier.db-wal", "luthier.db-shm", "luthier.db-journal", "serve.json", "api_key", "engines.log",
        "files", "jobs", "batches", "incoming", "trash",
    }  # fmt: skip


def test_words_of_a_request_become_no_part_of_a_command_or_a_path(tmp_path: Path):
    desk = bench(tmp_path / "data")
    job = desk.queued_job(uploaded(desk))
    for word in WORDS:
        name = tuned_name(replace(job, request={"suffix": word}))
        assert not set(name) & set("/\\$`;|&'\"*\n %{}()<>"), name
