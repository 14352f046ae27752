"""`e2e/bench/handover`: the gap at hand-overs, warm and by recomputing, beside the usual one."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from cascade_policy.stage_map import RECOMPUTE, WARM, Boundaries, Handoff, StageMap
from e2e.bench.handover_bench.gaps import Gaps, gaps
from e2e.local_service.service import ServiceFailed, ServicePlan, local_service

END = 2600
"""Tokens at which the first stage ends."""
OUTPUT = 160
PROMPTS = (2480, 2560)
"""The range of prompts: each stream crosses the end somewhere in its answer."""
APART = 0.9
"""Seconds between two streams: about six run at the same time."""
ENGINE = {
    "baseMs": 25.0,
    "perSequenceMs": 0.1,
    "perKvTokenMs": 0.0002,
    "prefillMsPerToken": 0.1,
    "prefillMsPerTokenSquared": 0.0,
    "chunkTokens": 512,
}
"""A sequence of 2,600 tokens takes about ten steps to compute."""
MOST_WARM = 0.5
"""The gap of a warm hand-over as a share of that of one that recomputes."""


@dataclass(frozen=True)
class Figures:
    """Of one transport. Times in ms."""

    streams: int
    lost: int
    wrong: int
    handovers: int
    usual_p50: float
    gap_p50: float
    gap_p99: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both transports, print a table; 1 when a stream is lost or a claim fails."""
    options = _options(arguments)
    console = Console(stderr=options.json == "-", soft_wrap=True)
    low, high = PROMPTS
    prompts = [low + number * (high - low) // options.streams for number in range(options.streams)]
    figures: dict[str, Figures] = {}
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            for transport in (WARM, RECOMPUTE):
                figures[transport] = figures_of(_run(transport, prompts, progress))
    except ServiceFailed as error:
        print(f"e2e/bench/handover: {error}", file=sys.stderr)
        return 2
    console.print(_table(figures))
    judged = claims(figures[WARM], figures[RECOMPUTE])
    for text, holds in judged:
        console.print(f"{'holds ' if holds else 'FAILS '} {text}")
    if options.json:
        text = json.dumps({name: asdict(one) for name, one in figures.items()}, indent=1)
        print(text) if options.json == "-" else Path(options.json).write_text(text + "\n")
    return 0 if all(holds for _, holds in judged) else 1


def figures_of(found: Gaps) -> Figures:
    """The figures of one run."""
    at = sorted(1000 * gap for gap in found.at_handover) or [0.0]
    return Figures(
        streams=found.streams,
        lost=found.lost,
        wrong=found.wrong,
        handovers=found.handovers,
        usual_p50=round(1000 * median(found.usual or [0.0]), 1),
        gap_p50=round(median(at), 1),
        gap_p99=round(at[min(len(at) - 1, int(0.99 * len(at)))], 1),
    )


def claims(warm: Figures, recompute: Figures) -> Sequence[tuple[str, bool]]:
    """(sentence, whether it holds)."""
    failed = sum(one.lost + one.wrong for one in (warm, recompute))
    share = warm.gap_p50 / recompute.gap_p50 if recompute.gap_p50 else 0.0
    steps = warm.gap_p50 / warm.usual_p50 if warm.usual_p50 else 0.0
    gap = f"a warm hand-over takes {steps:.1f} usual gaps, {share:.2f} of one that recomputes"
    return (
        (f"{failed} streams were lost or wrong", failed == 0),
        (
            f"{warm.handovers} + {recompute.handovers} hand-overs of {warm.streams} streams each",
            min(warm.handovers, recompute.handovers) > warm.streams / 2,
        ),
        (f"{gap}, at most {MOST_WARM}", 0 < share <= MOST_WARM),
    )


def _run(transport: str, prompts: Sequence[int], progress: Progress) -> Gaps:
    def use(stage_map: StageMap) -> StageMap:
        handoff = Handoff(transport=transport, slice_tokens=16)
        return replace(stage_map, boundaries=Boundaries.HARD, handoff=handoff)

    plan = ServicePlan(
        stages=[0, 1],
        ends=[END],
        coefficients=ENGINE,
        stage_map=use,
        router_environment={"CASCADE_BID_DEADLINE_MS": "20"},
    )
    task = progress.add_task(transport, total=len(prompts))
    with local_service(plan) as service:
        return asyncio.run(
            gaps(
                service.urls[0],
                plan.model,
                prompts,
                OUTPUT,
                APART,
                lambda: progress.advance(task),
            )
        )


def _table(figures: dict[str, Figures]) -> Table:
    table = Table(title="The gap that a hand-over makes", box=box.SIMPLE_HEAD)
    table.add_column("transport")
    for heading in ("hand-overs", "usual gap", "p50 at a hand-over", "p99 (ms)"):
        table.add_column(heading, justify="right")
    for name, one in figures.items():
        table.add_row(
            name,
            str(one.handovers),
            f"{one.usual_p50:.0f}",
            f"{one.gap_p50:.0f}",
            f"{one.gap_p99:.0f}",
        )
    return table


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="e2e/bench/handover",
        description="Measure the gap between the tokens of streams that are handed over, with "
        "real routers before engine simulators.",
    )
    parser.add_argument("--streams", type=int, default=48, metavar="N", help="for each transport")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, - for stdout")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
