"""Requests that break the protocol, byte by byte as a client's library would never send them."""

import socket
import time
from contextlib import suppress

import pytest
from serving import Served, tickets
from test_guards import FILE, field, multipart

HEAD = "{} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n"
UPLOAD = "POST /v1/files"
FORM = "Content-Type: multipart/form-data; boundary=cut\r\n"


def sent(served: Served, request: bytes) -> bytes:
    """Send bytes as they stand; return what comes back until the server closes or has answered."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has heard enough
            connection.sendall(request)
        try:
            return connection.recv(4096)
        except ConnectionResetError:
            return b""


def head(served: Served, line: str, *headers: str) -> bytes:
    return (HEAD.format(line, served.key) + "".join(f"{header}\r\n" for header in headers) + "\r\n").encode()


CASES = {
    "a negative length": lambda served: head(served, UPLOAD, FORM.strip(), "Content-Length: -1"),
    "a length in words": lambda served: head(served, UPLOAD, FORM.strip(), "Content-Length: many"),
    "two lengths": lambda served: (
        head(served, UPLOAD, FORM.strip(), "Content-Length: 3", "Content-Length: 4") + b"abcd"
    ),
    "a length and chunks": lambda served: (
        head(served, UPLOAD, FORM.strip(), "Content-Length: 3", "Transfer-Encoding: chunked") + b"0\r\n\r\n"
    ),
    "a length beyond the limit": lambda served: head(served, UPLOAD, FORM.strip(), "Content-Length: 538000000"),
    "a length of twenty digits": lambda served: head(
        served, UPLOAD, FORM.strip(), "Content-Length: 99999999999999999999"
    ),
    "chunks beyond the limit": lambda served: (
        head(served, UPLOAD, FORM.strip(), "Transfer-Encoding: chunked")
        + b"100000\r\n"
        + b"x" * (1 << 20)
        + b"\r\n"
        + b"100000\r\n"
        + b"x" * (1 << 20)
        + b"\r\n"
    ),
    "chunks of no size": lambda served: head(served, UPLOAD, FORM.strip(), "Transfer-Encoding: chunked") + b"zz\r\n",
    "much before the first boundary": lambda served: (
        head(served, UPLOAD, FORM.strip(), f"Content-Length: {1 << 20}") + b"x" * (1 << 20)
    ),
    "a body that ends too early": lambda served: head(served, UPLOAD, FORM.strip(), "Content-Length: 100") + b"--cut",
    "a thousand headers": lambda served: head(
        served, "GET /v1/models", *(f"X-{number}: {'y' * 100}" for number in range(1000))
    ),
    "a header of a megabyte": lambda served: head(served, "GET /v1/models", "X: " + "y" * (1 << 20)),
    "an address of a megabyte": lambda served: head(served, "GET /v1/" + "x" * (1 << 20)),
    "a method that is none": lambda served: head(served, "G\0T /v1/models"),
    "no protocol": lambda served: b"GET /v1/models\r\n\r\n",
    "another protocol": lambda served: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "no host": lambda served: b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": lambda served: b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "a header that is folded": lambda served: head(served, "GET /v1/nothing", "X: a\r\n b"),
    "an absolute address": lambda served: b"GET http://evil.example/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n",
}


@pytest.mark.parametrize("case", CASES)
def test_a_request_that_breaks_the_protocol_is_refused_at_once(served: Served, case: str):
    before = sorted((served.data / "files").iterdir())
    since = time.monotonic()
    answer = sent(served, CASES[case](served))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert time.monotonic() - since < 15
    assert served.call("GET", "/healthz")[0] == 200
    assert list((served.data / "incoming").iterdir()) == [] and sorted((served.data / "files").iterdir()) == before


def test_a_request_behind_another_one_cannot_hide_in_it(served: Served):
    """What lies behind a body is the next request, with its own key or none."""
    hidden = b"GET /v1/files HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = sent(served, head(served, "POST /v1/chat/completions", f"Content-Length: {2}") + b"{}" + hidden)
    assert answer.startswith(b"HTTP/1.1 400") and b'"data"' not in answer


@pytest.mark.parametrize("goes_on", ["keep-alive", "close"])
@pytest.mark.parametrize(
    ("line", "wanted"), [(UPLOAD, b"401"), ("POST /v1/fine_tuning/jobs", b"401"), ("PUT /v1/files", b"401")]
)
def test_a_large_request_without_a_key_reads_its_answer(served: Served, line: str, wanted: bytes, goes_on: str):
    """More than the sockets hold: the answer would be lost if the connection were closed before all has been heard."""
    size = 8 << 20
    head = f"{line} HTTP/1.1\r\nHost: localhost\r\nConnection: {goes_on}\r\nContent-Length: {size}\r\n{FORM}\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(head.encode() + b"x" * size)
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 " + wanted) and b"invalid_api_key" in answer
        if goes_on == "keep-alive":  # and the connection is still good
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_what_is_refused_at_the_door_is_counted_and_no_word_becomes_a_label(served: Served):
    log = served.data.with_name(f"{served.data.name}.log")
    tracebacks = log.read_text().count("Traceback")
    assert sent(served, b"CANARY /v1/files HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 401")
    figures = str(served.call("GET", "/metrics")[1]["text"])
    assert 'route="guards.Authenticated",method="OTHER",status="401"' in figures and "CANARY" not in figures
    assert log.read_text().count("Traceback") == tracebacks


def test_a_request_that_stalls_behind_an_answer_is_closed(served: Served):
    stalling = (
        b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost:",
    )
    held = [socket.create_connection(("127.0.0.1", served.port), timeout=20) for _ in stalling]
    for connection, begun in zip(held, stalling, strict=True):
        connection.sendall(begun)
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(4096)
        connection.sendall(b"x")  # which ends the wait for the next request, and begins none
    assert [connection.recv(1) for connection in held] == [b"", b""]


def test_what_never_ends_is_not_heard_out(served: Served):
    """The limit of a file and 16 megabytes more, then the connection is cut."""
    endless = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(endless)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(64):
                connection.sendall(b"x" * (1 << 20))


def test_a_thousand_ranges_get_the_file_whole(served: Served):
    status, file, _ = served.call("POST", "/v1/files", *multipart(field("purpose"), FILE + tickets(12)))
    assert status == 200
    ranges = ",".join(f"{number}-{number}" for number in range(1000))
    status, body, _ = served.call("GET", f"/v1/files/{file['id']}/content", headers={"Range": f"bytes={ranges}"})
    assert status == 200 and str(body["text"]).encode() == tickets(12)
    assert served.call("DELETE", f"/v1/files/{file['id']}")[0] == 200
