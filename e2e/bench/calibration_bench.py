"""How near `cascade calibrate` comes to engines whose coefficients are known.

`python -m e2e.bench.calibration_bench [--max-seconds S] [--json FILE]`: an engine simulator as a
process, the command as another, for each of a few engines.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from cascade_policy.profiles import profile
from e2e.bench.goal import Goal, goals_table
from e2e.local_service.lone_engine import lone_engine

COMMAND: Final = (sys.executable, "-c", "import sys, cascade_cli.main as c; sys.exit(c.main())")
MOST_OFF: Final = 0.05
"""Of a coefficient."""
ENGINES: Final[Mapping[str, Mapping[str, float]]] = {
    "simulated": {},
    "even and large": {
        "baseMs": 30.0,
        "perSequenceMs": 0.4,
        "perKvTokenMs": 0.0003,
        "heterogeneity": 0.0,
        "prefillMsPerToken": 0.08,
        "prefillMsPerTokenSquared": 1e-5,
        "chunkTokens": 1024,
        "kvCapacityTokens": 400_000,
    },
}
"""What differs from the profile `simulated`."""
COEFFICIENTS: Final = (
    "baseMs",
    "perSequenceMs",
    "perKvTokenMs",
    "heterogeneity",
    "prefillMsPerToken",
    "prefillMsPerTokenSquared",
)


@dataclass(frozen=True, slots=True)
class Found:
    """A coefficient of one engine."""

    engine: str
    name: str
    truth: float
    value: float
    low: float
    high: float | None

    @property
    def off(self) -> float:
        """Relative error; of a truth of 0 the value itself."""
        return abs(self.value / self.truth - 1) if self.truth else self.value

    @property
    def is_held(self) -> bool:
        """Whether the interval holds the truth."""
        return self.low <= self.truth and (self.high is None or self.truth <= self.high)


def main() -> int:
    """Calibrate each engine; status 1 when a coefficient is further off than the goal."""
    options = _options()
    documents, found, lags = {}, [], {}
    for name in ENGINES:
        document, lag = calibrated(name, options.max_seconds)
        documents[name], lags[name] = document, lag
        found += list(compared(name, document))
    _show(found, documents, lags)
    if options.json:
        figures = {"engines": documents, "lagSeconds": lags}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    goals = [
        Goal(f"{name}: worst coefficient", f"{100 * worst:.1f} %", f"{100 * MOST_OFF:g} %",
             worst <= MOST_OFF)
        for name in ENGINES
        for worst in [max(one.off for one in found if one.engine == name)]
    ]  # fmt: skip
    Console().print(goals_table(goals))
    return 0 if all(goal.met for goal in goals) else 1


def truth_of(engine: str) -> dict[str, float]:
    """The coefficients that an engine runs with."""
    return {**profile("simulated").to_json(), **ENGINES[engine]}


def calibrated(engine: str, max_seconds: float) -> tuple[dict[str, Any], float]:
    """The profile that the command makes of an engine, and by how long the engine was late."""
    with lone_engine(**ENGINES[engine]) as running, tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "profile.json"
        words = ["--max-seconds", f"{max_seconds:g}", "--output", str(output)]
        subprocess.run([*COMMAND, "calibrate", "--url", running.url, *words], check=True)
        return json.loads(output.read_text()), running.lag_seconds


def compared(engine: str, document: Mapping[str, Any]) -> Iterator[Found]:
    """Each coefficient beside the truth."""
    truth = truth_of(engine)
    for name in COEFFICIENTS:
        low, high = document["intervals"][name]
        yield Found(engine, name, truth[name], document["coefficients"][name], low, high)


def _show(
    found: list[Found], documents: Mapping[str, dict[str, Any]], lags: Mapping[str, float]
) -> None:
    table = Table("engine", "coefficient", "truth", "found", "off", "in the interval")
    for one in found:
        off = f"{100 * one.off:.1f} %" if one.truth else f"{one.off:.2g}"
        held = "yes" if one.is_held else "no"
        table.add_row(one.engine, one.name, f"{one.truth:g}", f"{one.value:g}", off, held)
    console = Console()
    console.print(table)
    for name, document in documents.items():
        errors = document["heldOutErrorPercent"]
        console.print(
            f"{name}: held-out errors {errors['decode']['median']} % (decode) and "
            f"{errors['prefill']['median']} % (prefill) in the median; the engine was late by "
            f"{lags[name]:.1f} s in all"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="e2e/bench/calibration", description=__doc__)
    parser.add_argument("--max-seconds", type=float, default=180.0, metavar="S")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
