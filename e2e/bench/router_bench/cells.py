"""One measurement: which there are, in which order, and how one is run."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from e2e.bench.rivals import NotInstalled, NotServing
from e2e.bench.router_bench import wire
from e2e.bench.router_bench.contestants import DIRECT, OURS_1, OURS_2, Contestant, engine, paths
from e2e.bench.router_bench.load import Order

MEMORY_STREAMS: Final = 1000
MEMORY_TOKENS: Final = 5000
FILLING: Final = 4
"""Long streams that get their tokens at the same time, as fast as they go: more would hold the
router up for so long that it takes its engine for lost."""
LANES: Final = 16
"""Connections that send unstreamed requests."""
CEILING_STREAMS: Final = 512
CEILING_RATE: Final = 1e6
"""Events per second that no engine reaches."""
CELL_SECONDS: Final = 300.0


class Kind(StrEnum):
    """What is measured."""

    STREAMS = "streams"
    REQUESTS = "requests"
    MEMORY = "memory"
    CEILING = "ceiling"


@dataclass(frozen=True)
class Cell:
    """One measurement of one contestant."""

    kind: Kind
    contestant: str
    streams: int
    repeat: int

    def __str__(self) -> str:
        what = f"{self.streams} streams" if self.kind is Kind.STREAMS else self.kind.value
        return f"{self.contestant}, {what}"


@dataclass(frozen=True)
class Plan:
    """What to measure, and for how long."""

    streams: Sequence[int] = (1, 64, 512, 2000)
    paces: Sequence[str] = (wire.STEP, wire.SPREAD)
    repeat: int = 3
    rate: float = 5000.0
    seconds: float = 8.0
    settle: float = 1.0
    memory: bool = True

    def cells(self, contestants: Sequence[str]) -> list[Cell]:
        """All measurements. Contestants alternate, and each repetition begins with another."""
        cells = [Cell(Kind.CEILING, DIRECT, CEILING_STREAMS, 0)]
        for repeat in range(self.repeat):
            turn = repeat % len(contestants)
            order = [*contestants[turn:], *contestants[:turn]]
            for streams in self.streams:
                cells += [Cell(Kind.STREAMS, name, streams, repeat) for name in order]
            cells += [Cell(Kind.REQUESTS, name, 0, repeat) for name in order]
        if self.memory:
            ours = [name for name in contestants if name in (OURS_1, OURS_2)]
            cells += [Cell(Kind.MEMORY, name, MEMORY_STREAMS, 0) for name in ours]
        return cells

    def order(self, cell: Cell) -> Order:
        """What the client has to do; ports and processes are filled in when they are known."""
        plain = Order(
            *(0, 0, cell.streams),
            rate=self.rate,
            seconds=self.seconds,
            settle=self.settle,
            paces=self.paces,
        )
        if cell.kind is Kind.STREAMS:
            return plain
        changes: dict[Kind, dict[str, Any]] = {
            Kind.REQUESTS: {"requests": LANES, "seconds": min(5.0, self.seconds)},
            Kind.MEMORY: {"heads": (MEMORY_TOKENS, MEMORY_TOKENS), "opening": FILLING, "paces": ()},
            Kind.CEILING: {"rate": CEILING_RATE, "paces": (wire.STEP,), "probes": 0},
        }
        return Order(**{**asdict(plain), **changes[cell.kind]})


@dataclass(frozen=True)
class Outcome:
    """What a measurement brought: figures, and what went wrong, if anything."""

    cell: Cell
    figures: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None


def run(cell: Cell, contestant: Contestant, plan: Plan) -> Outcome:
    """Run a measurement: engine, router and client are processes of their own, and new."""
    with TemporaryDirectory(prefix="cascade-bench-") as name:
        folder = Path(name)
        try:
            with engine(folder) as backend, contestant.start(backend.url, folder) as router:
                order = {
                    **asdict(plan.order(cell)),
                    "port": router.port,
                    "engine_port": backend.port,
                    "processes": {**router.processes, "engine": [backend.pid]},
                }
                figures = _client(order)
        except (NotInstalled, NotServing, _ClientFailed) as error:
            return Outcome(cell, failure=str(error))
    return Outcome(cell, figures, _failure(figures))


class _ClientFailed(Exception):
    """The client came to no figures; the message is the end of what it said."""


def _client(order: Mapping[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "e2e.bench.router_bench.load", json.dumps(order)]
    try:
        done = subprocess.run(
            command, env=paths(), capture_output=True, timeout=CELL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise _ClientFailed(f"not done after {CELL_SECONDS:g} s") from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise _ClientFailed(lines[-1] if lines else f"the client ended with {done.returncode}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _failure(figures: Mapping[str, Any]) -> str | None:
    """What was wrong with the answers, in a few words."""
    parts = [f"{count} x {what}" for what, count in figures["wrong"].items()]
    if figures.get("lostStreams"):
        parts.append(f"{figures['lostStreams']} streams lost")
    missing = figures.get("eventsSent", 0) - figures.get("events", 0)
    if missing:
        parts.append(f"{missing} events lost")
    return ", ".join(parts) or None
