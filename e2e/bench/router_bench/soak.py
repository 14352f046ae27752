"""Many streams for a long time on our router, two hops: runs it and judges it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from e2e.bench.rivals import NotServing
from e2e.bench.router_bench.contestants import FRONT, TARGET, Contestant, engine, paths
from e2e.bench.router_bench.endurance import Sample, Verdict, faults, growths
from e2e.bench.router_bench.soak_client import SoakOrder

ROLES: Final = (FRONT, TARGET)

Tell = Callable[[Mapping[str, Any]], None]
"""Is told of every sample as it comes."""


@dataclass(frozen=True)
class SoakPlan:
    """How many streams for how long, in seconds; what is read in the warm-up is not judged."""

    streams: int = 4000
    rate: float = 5000.0
    seconds: float = 600.0

    @property
    def warm_up(self) -> float:
        """Seconds in which buffers and pools may still grow."""
        return self.seconds / 4


def soak(contestant: Contestant, plan: SoakPlan, tell: Tell) -> tuple[Verdict, list[Sample]]:
    """Run it; what came of it, and what was read on the way."""
    lines: list[Mapping[str, Any]] = []
    with TemporaryDirectory(prefix="cascade-bench-") as name:
        folder = Path(name)
        try:
            with engine(folder) as backend, contestant.start(backend.url, folder) as router:
                order = SoakOrder(
                    router.port,
                    backend.port,
                    plan.streams,
                    plan.rate,
                    plan.seconds,
                    {**router.processes, "engine": [backend.pid]},
                )
                for line in _client(order):
                    lines.append(line)
                    tell(line)
        except NotServing as error:
            return Verdict(faults=[str(error)]), []
    return judged(lines, plan.warm_up)


def judged(lines: Sequence[Mapping[str, Any]], warm_up: float) -> tuple[Verdict, list[Sample]]:
    """What the lines of a client tell."""
    samples = [Sample.from_json(line) for line in lines if "end" not in line]
    if not lines or "end" not in lines[-1]:
        return Verdict(faults=["the client ended before its time"]), samples
    found = faults(lines[-1], ROLES)
    try:
        return Verdict(growths(samples, ROLES, warm_up), found), samples
    except ValueError as error:
        return Verdict(faults=[*found, str(error)]), samples


def soak_json(verdict: Verdict, samples: Sequence[Sample]) -> dict[str, Any]:
    """What `--json` writes."""
    return {
        "passed": verdict.passed,
        "growths": [{**asdict(growth), "grew": growth.grew} for growth in verdict.growths],
        "faults": list(verdict.faults),
        "samples": [asdict(sample) for sample in samples],
    }


def _client(order: SoakOrder) -> Iterator[Mapping[str, Any]]:
    command = [sys.executable, "-m", "e2e.bench.router_bench.soak_client"]
    with subprocess.Popen(
        [*command, json.dumps(asdict(order))], env=paths(), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield json.loads(line)
        finally:
            process.kill()
