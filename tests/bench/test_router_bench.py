"""The router bench: its order, its figures and its tables."""

import json
import sys
from contextlib import AbstractContextManager
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from e2e.bench.rivals import RIVALS
from e2e.bench.rivals.process import serving
from e2e.bench.router_bench import wire
from e2e.bench.router_bench.cells import Cell, Kind, Outcome, Plan, run
from e2e.bench.router_bench.contestants import (
    DIRECT,
    FRONT,
    OURS_1,
    OURS_2,
    ROUTER,
    TARGET,
    Contestant,
    Running,
    contestants,
)
from e2e.bench.router_bench.figures import Figures, as_json
from e2e.bench.router_bench.goals import judged
from e2e.bench.router_bench.report import report
from tests.conftest import Golden

GOLDEN = Path(__file__).parent / "golden"


def test_contestants_alternate_and_each_repetition_begins_with_another() -> None:
    cells = Plan(streams=(1, 64), repeat=2).cells(["direct", "a", "b"])
    streams = [(cell.repeat, cell.streams, cell.contestant) for cell in cells if cell.streams]
    assert [name for repeat, count, name in streams if (repeat, count) == (0, 64)] == [
        *("direct", "a", "b")
    ]
    assert [name for repeat, count, name in streams if (repeat, count) == (1, 1)] == [
        *("a", "b", "direct")
    ]
    assert len(set(cells)) == len(cells)


def test_only_our_router_is_asked_what_long_streams_take() -> None:
    cells = Plan(repeat=1).cells(list(contestants()))
    held = [cell.contestant for cell in cells if cell.kind is Kind.MEMORY]
    assert held == [OURS_1, OURS_2]


def steady(cpu: dict[str, float], p50: float, p99: float, ttft: float) -> dict[str, Any]:
    """Figures of one pace."""
    return {
        "seconds": 8.0,
        "events": 40_000,
        "cpu": {role: {"us": us, "kernel": 0.4} for role, us in cpu.items()},
        "delayUs": {"p50": p50, "p99": p99},
        "ttftUs": {"p50": ttft, "p99": 2 * ttft},
    }


def streams_outcome(
    name: str, streams: int, repeat: int, cpu: dict[str, float], delay: float
) -> Outcome:
    """A measurement of open streams that went well."""
    figures = {
        "paces": {
            wire.STEP: steady(cpu, delay, 3 * delay, 400 + delay),
            wire.SPREAD: steady({r: 2 * us for r, us in cpu.items()}, 30, 90, 300 + delay),
        },
        "memory": {
            role: {"rss_mb": 60 + streams / 50, "pss_mb": 50.0, "open_files": 2 * streams}
            for role in cpu
        },
    }
    return Outcome(Cell(Kind.STREAMS, name, streams, repeat), figures)


def recorded() -> list[Outcome]:
    """A run of two repetitions, in which one router failed."""
    used: dict[str, dict[str, float]] = {
        DIRECT: {},
        OURS_1: {FRONT: 15.0},
        OURS_2: {FRONT: 14.0, TARGET: 8.0},
        "vllm-router": {ROUTER: 14.0},
        "sglang-router": {ROUTER: 16.0},
    }
    outcomes = [
        streams_outcome(
            name,
            streams,
            repeat,
            {role: us + repeat + streams / 512 for role, us in cpu.items()},
            200 + 10 * sum(cpu.values()) + repeat,
        )
        for repeat in (0, 1)
        for streams in (64, 512)
        for name, cpu in used.items()
    ]
    broken = Cell(Kind.STREAMS, "aiohttp", 512, 0)
    outcomes.append(Outcome(broken, failure="3 x connection closed, 3 streams lost"))
    for name, rate in ((DIRECT, 60_000.0), (OURS_1, 6000.0), ("vllm-router", 12_000.0)):
        cpu = {} if name == DIRECT else {ROUTER: {"us": 1e6 / rate, "kernel": 0.3}}
        latency = {"p50": 1e7 / rate, "p99": 3e7 / rate}
        figures = {"perSecond": rate, "cpu": cpu, "latencyUs": latency}
        outcomes.append(Outcome(Cell(Kind.REQUESTS, name, 0, 0), figures))
    memory = {FRONT: {"rss_mb": 118.0, "pss_mb": 101.0}, TARGET: {"rss_mb": 75.0, "pss_mb": 60.0}}
    outcomes.append(Outcome(Cell(Kind.MEMORY, OURS_2, 1000, 0), {"memory": memory}))
    alone = steady({"engine": 4.0, "client": 5.0}, 1, 2, 3)
    outcomes.append(Outcome(Cell(Kind.CEILING, DIRECT, 512, 0), {"paces": {wire.STEP: alone}}))
    return outcomes


def test_the_tables_of_a_recorded_run(golden: Golden) -> None:
    page = StringIO()
    console = Console(width=110, file=page, color_system=None)
    for part in report(recorded(), 5000.0):
        console.print(part)
    lines = [line.rstrip() for line in page.getvalue().splitlines()]
    golden(GOLDEN / "router-bench.txt", "\n".join(lines) + "\n")


def test_the_figures_of_a_recorded_run() -> None:
    figures = as_json(recorded(), Plan())
    assert figures["cpuPerEventUs"][wire.STEP][OURS_1] == {"64": 15.625, "512": 16.5}
    assert figures["cpuPerEventUs"][wire.STEP][OURS_2] == {"64": 23.25, "512": 25.0}
    assert figures["cpuPerEventUsTarget"][wire.STEP][OURS_2]["512"] == 9.5
    assert figures["cpuRatioToBestRust"][wire.STEP][OURS_1]["512"] == pytest.approx(
        (16 / 15 + 17 / 16) / 2, abs=0.001
    )
    assert figures["addedItlP99Ms"][wire.STEP][OURS_1]["64"] == pytest.approx(0.45)
    assert figures["rssMb"][wire.STEP]["vllm-router"]["512"] == pytest.approx(70.24)
    assert DIRECT not in figures["cpuPerEventUs"][wire.STEP]
    assert figures["requestsPerSecond"]["vllm-router"] == 12_000
    assert figures["failures"] == [
        {"cell": "aiohttp, 512 streams", "failure": "3 x connection closed, 3 streams lost"}
    ]
    assert figures["setting"]["repeat"] == Plan().repeat
    assert set(figures["setting"]["routers"]) == set(RIVALS)
    assert json.loads(json.dumps(figures)) == figures


def test_goals_are_judged_by_the_best_rust_router() -> None:
    figures = Figures(recorded())
    goals = {goal.what: goal for goal in judged(figures.rows(), figures.held())}
    one_hop = goals["CPU per event, one hop, step, 512 streams"]
    assert (one_hop.value, one_hop.met) == ("1.06 x", False)
    assert not goals["CPU per event, both hops, step, 512 streams"].met
    assert goals["added inter-token p99, one hop, spread, 64 streams"].met
    assert not goals["added inter-token p99, one hop, step, 64 streams"].met
    assert goals["RSS with 1,000 streams of 5,000 tokens, ours-2-hops"].met


def test_a_goal_whose_measurement_failed_is_missed() -> None:
    memory = {FRONT: {"rss_mb": 80.0, "pss_mb": 70.0}}
    cell = Cell(Kind.MEMORY, OURS_1, 1000, 0)
    figures = Figures([Outcome(cell, {"memory": memory}, "2 x status 503")])
    (goal,) = judged(figures.rows(), figures.held())
    assert (goal.value, goal.met) == ("failed", False)


def test_a_measurement_through_both_hops_of_the_real_router() -> None:
    plan = Plan(paces=(wire.STEP,), rate=400, seconds=0.3, settle=0.0)
    outcome = run(Cell(Kind.STREAMS, OURS_2, 8, 0), contestants()[OURS_2], plan)
    assert outcome.failure is None
    used = outcome.figures["paces"][wire.STEP]["cpu"]
    assert set(used) == {FRONT, TARGET, "engine", "client"}
    assert all(one["us"] > 0 for one in used.values())
    assert outcome.figures["memory"][TARGET]["open_files"] > 8
    assert outcome.figures["streamsWithIds"] >= 8, "our router keeps ids, or it is not measured"


def test_a_measurement_that_cannot_be_made_says_why() -> None:
    def broken(engine_url: str, folder: Path) -> AbstractContextManager[Running]:
        command = [sys.executable, "-c", f"raise SystemExit('no way to {engine_url}')"]
        server = serving("broken", command, 1, folder, ready="/")
        return cast(AbstractContextManager[Running], server)

    outcome = run(Cell(Kind.STREAMS, "broken", 8, 0), Contestant("broken", broken), Plan())
    assert outcome.figures == {}
    assert outcome.failure is not None
    assert "no way to http://127.0.0.1:" in outcome.failure
