"""Batches on their way: interrupted, cancelled, expired, retried; the answers come from a function, not from an engine."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from desks import Bench, bench, uploaded

from luthier.core.types import JsonObject
from luthier.jobs.batch_input import Limits
from luthier.jobs.batches import OUTPUT, Batches, Wish
from luthier.jobs.records import BatchRecord
from luthier.server import batching
from luthier.server.batching import Batcher
from luthier.server.errors import ApiError

CHAT = "/v1/chat/completions"
USAGE: JsonObject = {
    "prompt_tokens": 5,
    "completion_tokens": 2,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 1},
}


class Engine:
    """Answers with the number that it was asked, and remembers what it was asked."""

    def __init__(self, hold_from: int = 1000) -> None:
        self.asked: list[int] = []
        self.hold_from = hold_from
        self.left = 0

    async def __call__(self, project_id: str, endpoint: str, body: JsonObject) -> JsonObject:
        number = int(str(body["n"]))
        self.asked.append(number)
        if number >= self.hold_from:
            try:
                await asyncio.sleep(600)
            finally:
                self.left += 1
        if number == 3:
            raise ApiError(400, "Invalid 'temperature'.", param="temperature", code="invalid_value")
        return {"n": number, "usage": USAGE}


@pytest.fixture
def desk(tmp_path: Path) -> Bench:
    return bench(tmp_path / "data")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(batching, "_REST_SECONDS", 0.01)


def started(desk: Bench, count: int = 8, seconds: int = 3600) -> tuple[Batches, BatchRecord]:
    lines = [{"custom_id": f"c{n}", "method": "POST", "url": CHAT, "body": {"n": n}} for n in range(count)]
    file = uploaded(desk, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    batches = Batches(desk.database, desk.folder, 10)
    made = batches.create(Wish(desk.project, {"input_file_id": file.id}, CHAT, file.id, seconds=seconds))
    return batches, made


def walk(
    desk: Bench, batches: Batches, answer: Callable[[str, str, JsonObject], Awaitable[JsonObject]],
    until: Callable[[], bool], at_once: int = 2,
) -> None:  # fmt: skip
    """Let a server work until something holds, then stop it."""

    async def work() -> None:
        batcher = Batcher(batches, desk.files, desk.folder, answer, at_once, Limits(100, 1000))
        running = asyncio.create_task(batcher.run())
        async with asyncio.timeout(60):
            while not until():
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(work())


def now(desk: Bench, batches: Batches, batch: BatchRecord) -> BatchRecord:
    found = batches.find(desk.project, batch.id)
    assert found is not None
    return found


def read(desk: Bench, file_id: str | None) -> dict[str, JsonObject]:
    assert file_id is not None
    lines = [json.loads(line) for line in desk.folder.file(file_id).read_bytes().splitlines()]
    assert len({line["custom_id"] for line in lines}) == len(lines), "a request was answered twice"
    return {line["custom_id"]: line for line in lines}


def test_each_request_is_answered_once_in_the_file_where_it_belongs(desk: Bench):
    batches, batch = started(desk)
    walk(desk, batches, Engine(), lambda: now(desk, batches, batch).status == "completed")
    ended = now(desk, batches, batch)
    assert ended.counts == {"total": 8, "completed": 7, "failed": 1}
    assert ended.usage == {"tokens_in": 35, "cached": 7, "tokens_out": 14}
    answers, errors = read(desk, ended.output_file), read(desk, ended.error_file)
    assert {name: line["response"]["body"]["n"] for name, line in answers.items()} == {  # type: ignore[index,call-overload]
        f"c{n}": n for n in range(8) if n != 3
    }
    refused = errors["c3"]["response"]
    assert isinstance(refused, dict) and refused["status_code"] == 400 and list(errors) == ["c3"]
    assert refused["body"]["error"]["param"] == "temperature"  # type: ignore[index,call-overload]


def test_a_server_that_is_stopped_in_the_middle_leaves_the_rest_to_the_next(desk: Bench):
    batches, batch = started(desk)
    first = Engine(hold_from=5)
    walk(desk, batches, first, lambda: 5 in first.asked and 6 in first.asked)
    assert first.left == 2, "what was on its way was not broken off"
    assert now(desk, batches, batch).status == "in_progress"
    with (desk.folder.batch(batch.id) / OUTPUT).open("ab") as stream:
        stream.write(b'{"custom_id": "c5", "response": {"status')
    second = Engine()
    walk(desk, batches, second, lambda: now(desk, batches, batch).status == "completed")
    assert sorted(second.asked) == [5, 6, 7], "answered requests were asked again"
    ended = now(desk, batches, batch)
    assert ended.counts == {"total": 8, "completed": 7, "failed": 1} and len(read(desk, ended.output_file)) == 7


def test_a_cancelled_batch_ends_with_what_was_answered(desk: Bench):
    batches, batch = started(desk)
    engine = Engine(hold_from=2)

    def cancelled() -> bool:
        if len(engine.asked) == 4 and now(desk, batches, batch).status == "in_progress":
            assert batches.cancel(desk.project, batch.id)
        return now(desk, batches, batch).status == "cancelled"

    walk(desk, batches, engine, cancelled)
    ended = now(desk, batches, batch)
    assert engine.left == 2 and ended.error_file is None
    assert sorted(read(desk, ended.output_file)) == ["c0", "c1"] and ended.counts["completed"] == 2
    assert {"cancelling_at", "cancelled_at"} <= set(ended.times)


def test_a_batch_whose_time_is_over_says_so_for_every_request_that_is_left(desk: Bench):
    batches, batch = started(desk, seconds=2)
    walk(desk, batches, Engine(hold_from=2), lambda: now(desk, batches, batch).status == "expired")
    ended = now(desk, batches, batch)
    assert sorted(read(desk, ended.output_file)) == ["c0", "c1"]
    errors = read(desk, ended.error_file)
    assert sorted(errors) == ["c2", "c3", "c4", "c5", "c6", "c7"]
    assert {line["error"]["code"] for line in errors.values()} == {"batch_expired"}  # type: ignore[index,call-overload]
    assert ended.counts == {"total": 8, "completed": 2, "failed": 6}


def test_a_busy_engine_is_waited_for_and_one_that_keeps_dying_is_not(desk: Bench):
    batches, batch = started(desk, 2)
    tries = {0: 0, 1: 0}

    async def answer(project_id: str, endpoint: str, body: JsonObject) -> JsonObject:
        number = int(str(body["n"]))
        tries[number] += 1
        if number == 0 and tries[0] < 6:
            raise ApiError(429, "full", code="queue_full", retry_after=0)
        if number == 1:
            raise ApiError(503, "dead", code="engine_died", retry_after=0)
        return {"n": number}

    walk(desk, batches, answer, lambda: now(desk, batches, batch).status == "completed")
    assert tries == {0: 6, 1: 3}
    ended = now(desk, batches, batch)
    assert list(read(desk, ended.output_file)) == ["c0"] and list(read(desk, ended.error_file)) == ["c1"]


def test_all_batches_together_ask_no_more_at_once_than_allowed(desk: Bench):
    made = [started(desk, 5) for _ in range(3)]
    batches = made[0][0]
    at_once, most = 0, 0

    async def answer(project_id: str, endpoint: str, body: JsonObject) -> JsonObject:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return {}

    walk(desk, batches, answer, lambda: not batches.unfinished(), at_once=2)
    assert most == 2
    assert [now(desk, batches, batch).counts["completed"] for _, batch in made] == [5, 5, 5]


def test_a_fault_of_ours_ends_the_batch_after_three_tries(desk: Bench):
    batches, batch = started(desk, 2)
    calls = 0

    async def answer(project_id: str, endpoint: str, body: JsonObject) -> JsonObject:
        nonlocal calls
        calls += 1
        raise ZeroDivisionError

    walk(desk, batches, answer, lambda: now(desk, batches, batch).status == "failed", at_once=1)
    errors = now(desk, batches, batch).errors
    assert calls == 3 and errors is not None and errors[0]["code"] == "internal_error"  # type: ignore[index,call-overload]


def test_a_full_disk_is_waited_for(desk: Bench):
    batches, batch = started(desk, 2)
    left = 5

    async def answer(project_id: str, endpoint: str, body: JsonObject) -> JsonObject:
        nonlocal left
        left -= 1
        if left > 0:
            raise OSError(28, "No space left on device")
        return {}

    walk(desk, batches, answer, lambda: now(desk, batches, batch).status == "completed")
    assert now(desk, batches, batch).counts["completed"] == 2


def test_a_file_with_a_fault_is_refused_and_nothing_is_asked(desk: Bench):
    batches = Batches(desk.database, desk.folder, 10)
    file = uploaded(desk, b"{]\n")
    batch = batches.create(Wish(desk.project, {}, CHAT, file.id))
    engine = Engine()
    walk(desk, batches, engine, lambda: now(desk, batches, batch).status == "failed")
    errors = now(desk, batches, batch).errors
    assert engine.asked == [] and errors is not None and errors[0]["line"] == 1  # type: ignore[index,call-overload]
