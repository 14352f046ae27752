"""The lines of the access log, and what happens when nobody reads them."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator

import pytest

from cascade_policy.arrival import Purpose
from cascade_policy.pins import Pin
from cascade_router.access_log import BATCH_LINES, AccessLog, line
from cascade_router.endpoints import Member
from cascade_router.outcomes import Outcome
from cascade_router.record import MAX_LEGS, LegOutcome, RequestRecord

POD = Member("pod-1", "10.0.0.2:8000", 1)


def record(number: int = 0) -> RequestRecord:
    return RequestRecord("POST", "/v1/completions", f"id-{number}", "10.0.0.9", started=100.0)


def test_a_line_says_all_that_is_known() -> None:
    one = record()
    one.begin_leg(Purpose.FIRST, Member("pod-0", "10.0.0.1:8000", 0), 70, 100.5)
    one.begin_leg(Purpose.WARM, POD, 90, 101.0)
    one.begin_leg(Purpose.RESUME, POD, 100, 102.0)
    one.status, one.streamed, one.stage, one.pin = 200, True, 0, Pin.NO_IDS
    one.handovers, one.rescues = 1, 2
    one.prompt_tokens, one.prompt_estimated = 70, True
    one.output_tokens, one.cached_tokens = 60, 64
    one.waited, one.ttft, one.tpot = 0.25, 0.5000001, 0.0123456789
    one.end(Outcome.COMPLETED, 103.5)
    text = line(one, 1_800_000_000.0625)
    assert text.endswith(b"}\n")
    assert text.count(b"\n") == 1
    assert json.loads(text) == {
        "time": "2027-01-15T08:00:00.062Z",
        "request_id": "id-0",
        "client": "10.0.0.9",
        "method": "POST",
        "path": "/v1/completions",
        "status": 200,
        "outcome": "completed",
        "streamed": True,
        "stage": 0,
        "instance": "pod-1",
        "instance_stage": POD.stage,
        "legs": 2,
        "handovers": 1,
        "rescues": 2,
        "pinned": "no-ids",
        "prompt_tokens": 70,
        "prompt_estimated": True,
        "output_tokens": 60,
        "cached_tokens": 64,
        "wait_seconds": 0.25,
        "ttft_seconds": 0.5,
        "tpot_seconds": 0.012346,
        "duration_seconds": 3.5,
    }


def test_what_is_not_known_is_null() -> None:
    one = record()
    one.end(Outcome.CANCELLED, 101.0)
    shown = json.loads(line(one, 0.0))
    unknown = {name for name, value in shown.items() if value is None}
    assert unknown == {
        *("status", "stage", "instance", "instance_stage", "pinned", "prompt_tokens"),
        *("cached_tokens", "ttft_seconds", "tpot_seconds"),
    }


def test_a_request_of_very_many_legs_tells_of_the_first_ones() -> None:
    one = record()
    for number in range(3 * MAX_LEGS):
        one.begin_leg(Purpose.RESUME, POD, number, 0.0).end(LegOutcome.LEFT, 1, 1.0)
    assert (one.leg_count, len(one.legs)) == (3 * MAX_LEGS, MAX_LEGS)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(end)


def lines_in(reader: int) -> list[str]:
    """Everything that was written, up to the end."""
    with os.fdopen(reader, "rb", closefd=False) as file:
        return [json.loads(text)["request_id"] for text in file.read().splitlines()]


def test_lines_come_in_their_order_and_whole(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lost: list[bool] = []
    log = AccessLog(writer, lambda: lost.append(True), 1000)
    numbers = range(BATCH_LINES + 5)
    for number in numbers:
        log.write(record(number))
    log.close()
    os.close(writer)
    assert lines_in(reader) == [f"id-{number}" for number in numbers]
    assert lost == []


@pytest.mark.parametrize("blocking", [True, False], ids=["a blocking pipe", "a non-blocking one"])
def test_a_full_pipe_costs_lines_and_no_time(pipe: tuple[int, int], blocking: bool) -> None:
    reader, writer = pipe
    os.set_blocking(writer, blocking)
    lost: list[bool] = []
    log = AccessLog(writer, lambda: lost.append(True), max_lines=50)
    started = time.monotonic()
    for number in range(3000):
        log.write(record(number))
    assert time.monotonic() - started < 10, "nobody has waited for the pipe"
    assert 0 < len(lost) < 3000
    # Somebody reads again: what was kept comes, and so does what follows.
    read: list[str] = []
    reading = threading.Thread(target=lambda: read.extend(lines_in(reader)))
    reading.start()
    while log.waiting:
        assert time.monotonic() - started < 30
        time.sleep(0.001)
    log.write(record(9999))
    log.close()
    os.close(writer)
    reading.join(30)
    assert len(read) + len(lost) == 3001
    assert (read[0], read[-1]) == ("id-0", "id-9999")


def test_a_closed_stdout_ends_the_log_and_nothing_else(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = pipe
    os.close(reader)
    lost: list[bool] = []
    log = AccessLog(writer, lambda: lost.append(True), max_lines=10)
    log.write(record())
    log._thread.join(10)
    for number in range(20):
        log.write(record(number))
    assert len(lost) == 10
    log.close()
    assert "the access log ends: stdout: Broken pipe" in caplog.text


def test_leaving_waits_a_moment_and_no_longer_for_a_full_pipe(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cascade_router.access_log.CLOSE_SECONDS", 0.05)
    log = AccessLog(pipe[1], lambda: None, 2000)
    for number in range(1000):
        log.write(record(number))
    started = time.monotonic()
    log.close()
    assert time.monotonic() - started < 10
    assert log._thread.is_alive(), "it is a daemon: the process may end"
