"""Names that lead out of a folder, in every place where a client may write a name: nothing is made or found by one."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from serving import Served, tickets
from test_guards import FILE, field, multipart

NAMES = [
    "../../../etc/passwd", "..\\..\\windows\\system32", "/etc/passwd", "//host/share/x", "\\\\host\\share\\x", "C:\\x.jsonl", "C:x", "~/.ssh/id_rsa", "~root", "%2e%2e%2fetc%2fpasswd",
    "%252e%252e%252fetc", "..%00/x", "x\0.jsonl", "..;/x", "....//....//x", "a" * 300, "e\u0301.jsonl", "\u00e9.jsonl", "\u202egnp.exe", "CON", "nul.jsonl", "aux", "x.", "x ", " x",
    "-rf", "--help", "x\ny", "x\r\nSet-Cookie: a=b", ".", "..", "...", "", "file:///etc/passwd", "http://127.0.0.1/x", "$(touch fired)", "`touch fired`", "; touch fired", "| touch fired", "&& touch fired",
    "{{7*7}}", "${jndi:ldap://x}", "%s%s%n", "'; DROP TABLE files; --", '" OR 1=1 --', "<script>alert(1)</script>", "\ufeffx", "\u2028x", "\U0001f600.jsonl", "a/b/c", "starter/../../x", "./starter",
]  # fmt: skip


def everything(served: Served) -> set[str]:
    """What lies in and beside the data folder, by path."""
    return {
        str(path.relative_to(served.data.parent))
        for path in served.data.parent.rglob("*")
        if "luthier.db" not in path.name
    }


def test_no_name_of_an_upload_leads_out_of_the_folder(served: Served):
    before = everything(served)
    for name in NAMES:
        shown = name.replace('"', "%22").replace("\r", "").replace("\n", "").encode()
        part = FILE.replace(b'filename="a.jsonl"', b'filename="' + shown + b'"') + tickets(12)
        status, file, _ = served.call("POST", "/v1/files", *multipart(field("purpose"), part))
        assert status in (200, 400), name
        if status == 400:
            continue
        told = str(file["filename"])
        assert 0 < len(told) <= 255 and told.isprintable() and not set(told) & set("/\\")
        status, _, headers = served.call("GET", f"/v1/files/{file['id']}/content")
        assert status == 200 and "set-cookie" not in headers and headers["content-disposition"].startswith("attachment")
        assert served.call("DELETE", f"/v1/files/{file['id']}")[0] == 200
    new = everything(served) - before
    assert new == set(), "a name has made a file"


def test_no_name_in_a_request_leads_to_a_file(served: Served):
    client = served.client()
    file = client.files.create(file=("tickets.jsonl", tickets(12)), purpose="fine-tune")
    before = everything(served)
    made = []
    for name in NAMES:
        where = quote(name, safe="")
        for path in ("files", "fine_tuning/jobs", "models"):
            # An empty name is the list, and so is one that a client's own library would have shortened.
            assert served.call("GET", f"/v1/{path}/{where or 'none'}")[0] in (404, 400), (path, name)
        assert served.call("GET", f"/v1/files/{where}/content")[0] in (404, 400)
        for field_name in ("model", "training_file", "validation_file"):
            body = {"model": "starter", "training_file": file.id} | {field_name: name}
            assert served.call("POST", "/v1/fine_tuning/jobs", json.dumps(body).encode())[0] == 400, (field_name, name)
        chat = {"model": name, "messages": [{"role": "user", "content": "x"}]}
        assert served.call("POST", "/v1/chat/completions", json.dumps(chat).encode())[0] in (404, 400), name
        body = {"model": "starter", "training_file": file.id, "suffix": name}
        status, job, _ = served.call("POST", "/v1/fine_tuning/jobs", json.dumps(body).encode())
        assert status == (200 if 0 < len(name) <= 64 else 400), name
        if status == 200:
            made.append(str(job["id"]))
            client.fine_tuning.jobs.cancel(made[-1])
    new = {path for path in everything(served) - before if not any(job_id in path for job_id in made)}
    assert new == set() and not Path("fired").exists() and not (served.data / "fired").exists()


@pytest.mark.parametrize("name", ["openapi.json", "serve.json", "api_key", "luthier.db"])
def test_nothing_of_the_data_folder_is_served_by_its_name(served: Served, name: str):
    for path in (
        f"/{name}",
        f"/v1/files/..%2f{name}/content",
        f"/v1/files/%2e%2e/{name}",
        f"/v1/../{name}",
        f"/static/{name}",
    ):
        status, body, _ = served.call("GET", path)
        assert status in (400, 404) and served.key not in str(body)
