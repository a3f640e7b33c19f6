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


def test_a_thousand_ranges_get_the_file_whole(served: Served):
    status, file, _ = served.call("POST", "/v1/files", *multipart(field("purpose"), FILE + tickets(12)))
    assert status == 200
    ranges = ",".join(f"{number}-{number}" for number in range(1000))
    status, body, _ = served.call("GET", f"/v1/files/{file['id']}/content", headers={"Range": f"bytes={ranges}"})
    assert status == 200 and str(body["text"]).encode() == tickets(12)
    assert served.call("DELETE", f"/v1/files/{file['id']}")[0] == 200
