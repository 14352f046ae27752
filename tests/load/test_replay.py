"""The load against a real engine: all is well when it is, and nothing wrong goes unseen."""

import asyncio
import json
import signal
import sys

import pytest

from e2e.load.replay import EndpointUnusable, replay
from e2e.load.report import JsonObject
from tests.load.conftest import Load, Serve
from tests.load.proxy import Damage, damaging, doubled, lost


def ignored(_record: JsonObject) -> None:
    """Nobody looks at the records."""


async def test_nothing_is_lost_or_wrong_at_an_engine(serve: Serve, load: Load) -> None:
    records: list[JsonObject] = []
    async with serve("--coalesce-percent", "20") as port:
        summary = await replay(load(port, warmup=1), records.append)
    assert summary["requestsSent"] == summary["requestsCompleted"] == 40
    assert (summary["requestsLost"], summary["streamsWrong"]) == (0, 0), summary
    assert summary["latency"]["ttft"]["mean"] > 0
    assert summary["latency"]["e2e"]["p99"] >= summary["latency"]["e2e"]["p50"]
    assert sum(bucket["requests"] for bucket in summary["latencyByPromptTokens"]) == 40
    assert records[0]["kind"] == "start"
    assert records[0]["timeFactor"] == pytest.approx(50)
    assert records[-1] is summary


@pytest.mark.parametrize("damage", [lost, doubled])
async def test_a_lost_or_doubled_token_makes_streams_wrong(
    serve: Serve, load: Load, damage: Damage
) -> None:
    async with serve("--coalesce-percent", "0") as port, damaging(port, damage, 7) as proxy:
        summary = await replay(load(proxy), ignored)
    assert summary["requestsLost"] == 0, summary["lostExamples"]
    assert summary["streamsWrong"] > 20
    assert {example["what"] for example in summary["wrongExamples"]} <= {"text", "ids"}


async def test_busy_answers_are_sent_again_and_counted(serve: Serve, load: Load) -> None:
    faults = '{"status": 429, "statusTimes": 5, "retryAfterSeconds": 0}'
    async with serve("--faults", faults) as port:
        summary = await replay(load(port), ignored)
    assert summary["retries"] == 5
    assert summary["requestsCompleted"] == 40


async def test_failures_and_resets_are_losses_with_their_reasons(serve: Serve, load: Load) -> None:
    async with serve("--faults", '{"status": 500, "statusTimes": 3}') as port:
        failed = await replay(load(port), ignored)
    async with serve("--faults", '{"resetAfterTokens": 6, "resetTimes": 2}') as port:
        cut = await replay(load(port), ignored)
    assert failed["lostReasons"] == {"HTTP 500: injected fault": 3}
    assert cut["requestsLost"] == 2
    assert all("characters had come" in example["detail"] for example in cut["lostExamples"])
    assert failed["requestsSent"] == failed["requestsCompleted"] + 3


async def test_what_hangs_is_lost_at_the_drain_timeout(serve: Serve, load: Load) -> None:
    async with serve("--faults", '{"hang": true}', "--allow-faults") as port:
        summary = await replay(load(port, drain_timeout=0.2), ignored)
        await asyncio.sleep(0)
    assert summary["requestsLost"] == summary["requestsSent"] == 40
    assert list(summary["lostReasons"]) == ["not answered within the drain timeout"]


async def test_requests_longer_than_the_model_takes_are_left_out(serve: Serve, load: Load) -> None:
    async with serve("--max-length", "300") as port:
        summary = await replay(load(port), ignored)
    assert summary["requestsSkipped"] > 0
    assert summary["requestsSent"] + summary["requestsSkipped"] == 40
    assert (summary["requestsLost"], summary["streamsWrong"]) == (0, 0)


async def test_the_ramp_is_left_out_of_the_latency_alone(serve: Serve, load: Load) -> None:
    async with serve() as port:
        summary = await replay(load(port, exclude_first=0.4), ignored)
    assert summary["requestsCompleted"] == 40
    assert summary["requestsMeasured"] == 20


async def test_an_endpoint_that_cannot_be_used_is_named(load: Load) -> None:
    with pytest.raises(EndpointUnusable, match="/v1/models"):
        await replay(load(1), ignored)


async def test_sigterm_ends_the_sending_and_the_summary_is_printed(
    serve: Serve, load: Load
) -> None:
    async with serve() as port:
        options = load(port)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "e2e.load", "--url", options.url, "--trace", options.trace,
            "--requests-per-second", "50", "--duration", "600",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(30):
            kinds = [json.loads(await process.stdout.readline())["kind"] for _ in range(2)]
            process.send_signal(signal.SIGTERM)
            *_, last = (await process.stdout.read()).splitlines()
            assert await process.wait() == 0
    summary = json.loads(last)
    assert kinds == ["start", "progress"]
    assert summary["kind"] == "summary"
    assert 0 < summary["requestsSent"] == summary["requestsCompleted"] < 30_000
