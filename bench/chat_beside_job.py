"""What a fine-tuning job takes from chats: tokens a second through `luthier serve`, alone and beside a job that trains.

    python bench/chat_beside_job.py [--model starter|135m|DIR] [--clients 4] [--requests 32] [--tokens 32] [--rounds 3] [--json FILE] [--page FILE]

The server has its usual settings, so its engine and its trainer get the thread budgets that everybody's get; they are read
from the processes and told. Chats are measured before the job, while it takes its steps, and after it was cancelled; the
ratio is the median beside it over the median of all rounds without it. Prompts are as in `bench/serve.py`, new in every
round. A round beside the job counts only where the job took steps before it and after it. `--page` writes the block of
docs/performance.md anew.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import psutil
from pages import table, with_block
from serve import WORDS, Answered, by_http, folder_of, luthier_server, measured, prompts
from timing import machine

BLOCK = "chat beside a job"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
RESULT = Path(__file__).parent / "results" / "chat-beside-job.json"
UNMEASURED = "Not yet measured on a quiet machine. Aim: chats keep at least a third of their speed on 2 cores."
AIM = 1 / 3
ROWS, EPOCHS, READY_SECONDS = 4000, 50, 600


class Server:
    """A server, called in OpenAI's form without its client."""

    def __init__(self, port: int, key: str, pid: int) -> None:
        self.port, self.key, self.process = port, key, psutil.Process(pid)

    def call(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> dict:
        """Return the answer as an object."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=600)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": kind}
        connection.request(method, f"/v1/{path}", body, headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: status {answer.status}: {said[:300]!r}")
        return json.loads(said)

    def job(self) -> str:
        """Upload rows and submit a job that trains for longer than the bench takes; return its id."""
        parts = [
            ('form-data; name="purpose"', b"fine-tune"), ('form-data; name="file"; filename="rows.jsonl"', training_rows())
        ]  # fmt: skip
        form = b"".join(
            f"--edge\r\nContent-Disposition: {head}\r\n\r\n".encode() + data + b"\r\n" for head, data in parts
        )
        file = self.call("POST", "files", form + b"--edge--\r\n", "multipart/form-data; boundary=edge")
        asked = {
            "model": "measured",
            "training_file": file["id"],
            "hyperparameters": {"n_epochs": EPOCHS, "batch_size": 8},
        }
        return self.call("POST", "fine_tuning/jobs", json.dumps(asked).encode())["id"]

    def steps(self, job: str) -> int:
        """Return the last step that a running job has told of; 0 before the first. Raises RuntimeError for one that ended."""
        now = self.call("GET", f"fine_tuning/jobs/{job}")
        if now["finished_at"] is not None:
            raise RuntimeError(f"the job ended while chats were measured: {now['status']}: {now['error']}")
        events = self.call("GET", f"fine_tuning/jobs/{job}/events?limit=100")["data"]
        return max((one["data"]["step"] for one in events if one["type"] == "metrics"), default=0)

    def past(self, job: str, step: int) -> int:
        """Wait until a job has told of a later step; return it."""
        deadline = time.monotonic() + READY_SECONDS
        while (now := self.steps(job)) <= step:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the job told of no step after {step} within {READY_SECONDS} s")
            time.sleep(0.2)
        return now

    def threads(self) -> dict[str, int]:
        """Return the cores that the engine and the trainer may use, as their processes were told; of those that run now."""
        modules = {"luthier.generate.worker": "engine", "luthier.cli.main": "trainer"}
        found: dict[str, int] = {}
        for process in self.process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # a zombie is none any more, too
                named = [name for module, name in modules.items() if module in process.cmdline()]
                found |= {name: int(process.environ()["OMP_NUM_THREADS"]) for name in named}
        return found


def training_rows() -> bytes:
    """Rows of some sixty words each in OpenAI's form."""
    rng = random.Random(0)
    chats = [
        [
            {"role": "user", "content": " ".join(rng.choices(WORDS, k=60)) + f" {number}"},
            {"role": "assistant", "content": rng.choice(WORDS)},
        ]
        for number in range(ROWS)
    ]
    return "".join(json.dumps({"messages": chat}) + "\n" for chat in chats).encode()


def rounds_of(
    ask: Callable[[str], Answered],
    options: argparse.Namespace,
    first: int,
    between: Callable[[], object] = lambda: None,
) -> list[float]:
    """Return the tokens a second of each round; `between` is called before the rounds and after each."""
    found: list[float] = []
    between()
    for number in range(first, first + options.rounds):
        found.append(measured(ask, prompts(options.requests, number), options.clients).tokens_per_second)
        between()
        print(f"round {number}: {found[-1]:.1f} tokens/s", file=sys.stderr)
    return found


def beside(model: str, options: argparse.Namespace) -> dict[str, object]:
    """Measure chats without a job, beside one, and without it again."""
    with luthier_server({"models": {"measured": model}}) as (port, key, pid):
        server, ask = Server(port, key, pid), by_http(port, key, "measured", options.tokens)
        measured(ask, prompts(options.clients, 0), options.clients)
        before = rounds_of(ask, options, 1)
        job = server.job()
        steps = [server.past(job, 0)]
        threads = server.threads()
        during = rounds_of(ask, options, 1 + options.rounds, lambda: steps.append(server.past(job, steps[-1])))
        server.call("POST", f"fine_tuning/jobs/{job}/cancel")
        while "trainer" in server.threads():
            time.sleep(0.2)
        after = rounds_of(ask, options, 1 + 2 * options.rounds)
    alone = statistics.median([*before, *after])
    return {
        "machine": machine(), "threads": threads,
        "settings": {name: str(value) for name, value in vars(options).items() if name not in ("json", "page")},
        "job_steps": steps[-1] - steps[0], "tokens_per_second": {"before": before, "beside": during, "after": after},
        "alone": alone, "beside": statistics.median(during), "ratio": statistics.median(during) / alone,
    }  # fmt: skip


def block(result: dict) -> str:
    """Return the block of the page: where it was measured, the figures, and whether the aim is met."""
    told, threads, settings = result["machine"], result["threads"], result["settings"]
    rows = [
        ["chats", "tokens/s"],
        ["alone", f"{result['alone']:,.0f}"],
        ["beside a job that trains", f"{result['beside']:,.0f}"],
    ]
    met = "met" if result["ratio"] >= AIM else "**missed**"
    return (
        f"{settings['model']}, {settings['clients']} clients at a time, {settings['tokens']} tokens an answer, {told['cores']} cores of {told['processor']}; the engine "
        f"may use {threads['engine']}, the trainer {threads['trainer']}:\n\n{table(rows)}\n\nBeside the job, which took {result['job_steps']:,} steps meanwhile, chats keep "
        f"{100 * result['ratio']:.0f} % of their speed (aim: at least a third; {met})."
    )


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        result = beside(folder_of(options.model, Path(made)), options)
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.page:
        options.page.write_text(
            with_block(options.page.read_text(encoding="utf-8"), BLOCK, block(result)), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
