"""`cascade calibrate` against a real engine simulator, and against all that is none."""

import asyncio
import json
import math
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cascade_cli.calibration.document import resource_patch
from cascade_policy.engine_model import EngineModel
from e2e.local_service.lone_engine import LoneEngine, lone_engine
from tests.cli.calibration.engines import calibrating, server
from tests.cli.command import Cascade, runner

SLOW = {
    "baseMs": 25.0,
    "perSequenceMs": 1.5,
    "perKvTokenMs": 0.012,
    "heterogeneity": 0.4,
    "prefillMsPerToken": 0.25,
    "prefillMsPerTokenSquared": 4e-4,
    "chunkTokens": 256,
    "kvCapacityTokens": 60_000,
}
"""Steps of tens of ms, of which each coefficient makes a good part: a busy machine adds little."""
TOLD = ("baseMs", "perKvTokenMs", "prefillMsPerToken")
"""What also a short calibration on a busy machine tells to a half."""
SHORT = ("--max-batch", "16", "--max-tokens", "12000", "--repeats", "1", "--max-seconds", "60")
LAG_SECONDS = 0.5
"""By which an engine may have fallen behind its own schedule for its times to be worth judging."""
QUICK = {"baseMs": 2.0, "perSequenceMs": 0.0, "perKvTokenMs": 0.0, "prefillMsPerToken": 0.01}
MODELS = json.dumps({"object": "list", "data": [{"id": "demo", "max_model_len": 4096}]})
GAUGES = """\
vllm:num_requests_running{engine="0"} %d
vllm:num_requests_waiting{engine="0"} 0
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="4000"} 1
"""


@pytest.fixture
def cascade(capsys: pytest.CaptureFixture[str]) -> Cascade:
    return runner(capsys)


@dataclass(frozen=True)
class Run:
    """How a calibration ended."""

    status: int
    said: str
    document: dict[str, Any]
    """The profile; empty without one."""

    @property
    def far_off(self) -> list[tuple[str, float, list[float]]]:
        """(name, value, interval) of coefficients that are not those of SLOW, or hardly told.

        The interval is of 95 %, and this machine has other things to do: twice as wide, and 5 %.
        """
        found = []
        for name, interval in self.document["intervals"].items():
            value, truth = self.document["coefficients"][name], SLOW[name]
            high = math.inf if interval[1] is None else interval[1]
            is_told = name not in TOLD or high - value < truth / 2
            if abs(value - truth) > 2 * (high - value) + 0.05 * truth or not is_told:
                found.append((name, value, interval))
        return found


async def measured(engine: LoneEngine, *words: str) -> Run:
    """A short calibration of an engine."""
    async with asyncio.timeout(150), calibrating(engine.url, *SHORT, *words, "--json") as process:
        out, said = await process.communicate()
    assert process.returncode is not None
    return Run(process.returncode, said.decode(), json.loads(out) if out else {})


async def measured_in_peace(
    is_good: Callable[[Run], bool], *words: str, **coefficients: float
) -> Run:
    """The same; anew, if it was not good and the machine too busy for an engine to be on time."""
    for _ in range(3):
        with lone_engine("--max-length", "4096", **coefficients) as engine:
            found = await measured(engine, *words)
            if is_good(found) or engine.lag_seconds < LAG_SECONDS:
                break
    return found


async def test_the_coefficients_of_an_engine_are_found_and_plans_take_them(
    tmp_path: Path, cascade: Cascade
) -> None:
    files = {name: tmp_path / name for name in ("output", "patch", "report")}
    words = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    found = await measured_in_peace(lambda run: not run.status and not run.far_off, *words, **SLOW)

    assert found.status == 0, found.said
    assert not found.far_off
    coefficients = found.document["coefficients"]
    # A stall looks like a chunk more.
    assert coefficients["chunkTokens"] == pytest.approx(SLOW["chunkTokens"], rel=0.3)
    assert coefficients["kvCapacityTokens"] == SLOW["kvCapacityTokens"]
    assert found.document["heldOutErrorPercent"]["decode"]["median"] < 15

    assert json.loads(files["output"].read_text()) == found.document
    patch = resource_patch(EngineModel.from_json(coefficients))
    assert json.loads(files["patch"].read_text()) == patch
    assert "measured" in files["report"].read_text()
    trace = tmp_path / "trace.csv"
    trace.write_text("prompt,output\n" + "100,50\n2000,80\n" * 200)
    pool = ("--gpus", 4, "--load", 0.5, "--cost-model", files["output"])
    said = cascade("plan", "--trace", trace, *pool)
    assert said.status == 0, said.err


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for a condition that is asked for in a thread."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.05)


async def test_ctrl_c_closes_all_streams_and_leaves_the_engine_idle() -> None:
    with lone_engine("--max-length", "4096", **SLOW) as engine:
        async with calibrating(engine.url, *SHORT) as process:
            await until(lambda: engine.metric("vllm:num_requests_running") > 2, 60)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(20):
                _, said = await process.communicate()
        assert process.returncode == 130, said.decode()
        assert b"Traceback" not in said
        await until(lambda: engine.requests == 0)


@pytest.fixture
async def quick() -> AsyncIterator[LoneEngine]:
    with lone_engine("--max-length", "4096", **QUICK) as engine:
        yield engine


def test_a_dry_run_says_what_would_be_sent_and_leaves_it_at_a_warm_up(
    quick: LoneEngine, cascade: Cascade
) -> None:
    said = cascade("calibrate", "--url", quick.url, "--dry-run")
    assert said.status == 0, said.err
    assert "Will send" in said.err
    assert said.out == ""
    assert quick.metric("vllm:prompt_tokens_total") < 2000


def test_an_engine_that_serves_others_is_left_alone(cascade: Cascade) -> None:
    with server({"/v1/models": (200, MODELS), "/metrics": (200, GAUGES % 3)}) as url:
        said = cascade("calibrate", "--url", url)
    assert said.status == 5
    assert "serves 3 requests" in said.err
    assert "--yes-load-it" in said.err


def test_an_engine_without_metrics_is_loaded_only_on_demand(cascade: Cascade) -> None:
    with server({"/v1/models": (200, MODELS)}) as url:
        refused = cascade("calibrate", "--url", url, "--kv-tokens", 60_000)
        allowed = cascade("calibrate", "--url", url, "--kv-tokens", 60_000, "--yes-load-it")
    assert refused.status == 5
    assert "no vLLM gauges at /metrics" in refused.err
    # This server completes nothing; what counts is that it was asked to.
    assert allowed.status == 4
    assert "404" in allowed.err


TWO_RANKS = GAUGES % 0 + (GAUGES % 0).replace('engine="0"', 'engine="1"')


@pytest.mark.parametrize(
    ("pages", "words", "status", "message"),
    [
        pytest.param({}, (), 4, "404", id="a web server that is no engine"),
        pytest.param(
            {"/v1/models": (200, "<html>hello</html>")}, (), 4,
            "not as an OpenAI-compatible engine", id="a page where models should be",
        ),
        pytest.param(
            {"/v1/models": (401, '{"error":"Unauthorized"}')}, (), 4,
            "--bearer-token-file", id="an engine that wants a key",
        ),
        pytest.param(
            {"/v1/models": (500, "")}, (), 4, "answers 500", id="an engine that is ill",
        ),
        pytest.param(
            {"/v1/models": (200, MODELS)}, ("--model", "other"), 2,
            "it serves: demo", id="a model that it does not serve",
        ),
        pytest.param(
            {"/v1/models": (200, MODELS)}, ("--yes-load-it",), 2,
            "give --kv-tokens", id="a KV cache of unknown size",
        ),
        pytest.param(
            {"/v1/models": (200, '{"data": [{"id": "demo"}]}'), "/metrics": (200, GAUGES % 0)},
            (), 2, "give --max-model-len", id="a context of unknown length",
        ),
        pytest.param(
            {"/v1/models": (200, '{"data": []}'), "/metrics": (200, GAUGES % 0)},
            (), 2, "serves no model", id="an engine without a model",
        ),
        pytest.param(
            {"/v1/models": (200, MODELS), "/metrics": (200, TWO_RANKS)}, (), 2,
            "2 data-parallel engines", id="several engines behind one address",
        ),
        pytest.param(
            {
                "/v1/models": (200, MODELS), "/metrics": (200, GAUGES % 0),
                "/v1/completions": (400, '{"error": {"message": "Token id 99 is unknown"}}'),
            },
            (), 2, "Token id 99 is unknown", id="prompts that it refuses",
        ),
        pytest.param(
            {
                "/v1/models": (200, MODELS), "/metrics": (200, GAUGES % 0),
                "/v1/completions": (200, "data: {\"choices\": 3}\n\n"),
            },
            (), 4, "not that of a completion", id="a stream of something else",
        ),
        pytest.param(
            {
                "/v1/models": (200, MODELS), "/metrics": (200, GAUGES % 0),
                "/v1/completions": (200, "data: [DONE]\n\n"),
            },
            (), 4, "ignore_eos", id="answers that end by themselves",
        ),
        pytest.param(
            {
                "/v1/models": (200, MODELS), "/metrics": (200, GAUGES % 0),
                "/v1/completions": (200, 'data: {"error": {"message": "out of memory"}}\n\n'),
            },
            (), 4, "out of memory", id="an engine that fails in mid-answer",
        ),
    ],
)  # fmt: skip
def test_what_is_no_engine_to_measure_is_refused_with_what_to_do(
    pages: dict[str, tuple[int, str]],
    words: tuple[str, ...],
    status: int,
    message: str,
    cascade: Cascade,
) -> None:
    with server(pages) as url:
        said = cascade("calibrate", "--url", url, *words)
    assert said.status == status, said.err
    assert message in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("--url", "engine:8000"), "write http://HOST:PORT", id="no address"),
        pytest.param(
            ("--url", "http://127.0.0.1:9", "--output", "/no/such/folder/x.json"),
            "--output", id="a profile that cannot be written",
        ),
        pytest.param(
            ("--url", "http://127.0.0.1:9", "--bearer-token-file", "/no/such/token"),
            "holds no token", id="a token that is not there",
        ),
        pytest.param(
            ("--url", "http://127.0.0.1:9", "--ca-file", "/no/such/ca"),
            "--ca-file", id="authorities that are not there",
        ),
    ],
)  # fmt: skip
def test_wrong_options_are_told_before_anything_is_sent(
    words: tuple[str, ...], message: str, cascade: Cascade
) -> None:
    said = cascade("calibrate", *words)
    assert said.status == 2, said.err
    assert message in said.err


def test_an_address_where_nobody_listens_is_told(cascade: Cascade) -> None:
    with server({}) as url:
        pass
    said = cascade("calibrate", "--url", url)
    assert said.status == 4
    assert "cannot be reached" in said.err


@pytest.mark.parametrize(
    ("arguments", "words", "status", "message"),
    [
        pytest.param(
            ("--faults", '{"crashAfterTokens": 400}'), (), 4, "whether the engine",
            id="an engine that dies in the middle",
        ),
        pytest.param(
            ("--faults", '{"hang": true}'), ("--max-seconds", "2"), 4, "sent no token for 2 s",
            id="an engine that hangs",
        ),
        pytest.param(
            ("--faults", '{"status": 503}'), (), 4, "answers 503", id="an engine that is overloaded"
        ),
        pytest.param((), ("--max-tokens", "500"), 2, "--max-tokens", id="too small a budget"),
        pytest.param(
            ("--max-length", "512"), (), 2, "--max-model-len", id="too short a context"
        ),
    ],
)  # fmt: skip
def test_engines_that_cannot_be_measured_are_told_with_what_to_do(
    arguments: tuple[str, ...], words: tuple[str, ...], status: int, message: str, cascade: Cascade
) -> None:
    with lone_engine(*arguments, **QUICK) as engine:
        said = cascade("calibrate", "--url", engine.url, *words)
    assert said.status == status, said.err
    assert message in said.err
    assert "Traceback" not in said.err


async def test_batches_that_the_engine_does_not_run_at_once_are_left_out() -> None:
    few = {**SLOW, "baseMs": 10, "maxSequences": 12}
    found = await measured_in_peace(lambda run: not run.status, **few)
    assert found.status == 0, found.said
    assert found.document["coefficients"]["maxSequences"] == 12
    assert any("at most 12 sequences" in note for note in found.document["notes"])
