"""What `cascade simulate` prints and writes."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cascade_cli.report import findings
from cascade_cli.report.comparison import TIMES, Row
from cascade_cli.report.study import Study

FORMAT_VERSION: Final = 1
WIDTH: Final = 120
"""Of tables that do not go to a terminal."""


def print_table(study: Study, rows: Sequence[Row]) -> None:
    """A table for each load, on the standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=WIDTH, highlight=False)
    setup = study.setup
    console.print(
        f"{escape(setup.trace)}, {setup.traffic}, {setup.requests:,} requests on "
        f"{setup.instances} instances; simulated with cost model {escape(setup.profile)}"
        + (f", heterogeneity {setup.engine.heterogeneity:g}" if setup.engine.heterogeneity else "")
    )
    for load in study.loads:
        console.print(_table(load, [row for row in rows if row.load == load]))
    console.print(
        "In brackets: multiples of the strongest policy here that is blind to lengths. In time: "
        f"TTFT <= {setup.ttft_target_ms:g} ms and TPOT <= {setup.tpot_target_ms:g} ms."
    )


def as_json(study: Study, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything in the table, of a stable shape; times in ms."""
    setup = study.setup
    return {
        "formatVersion": FORMAT_VERSION,
        "setup": {
            "trace": setup.trace,
            "workload": setup.traffic,
            "instances": setup.instances,
            "profile": setup.profile,
            "engine": setup.engine.to_json(),
            "requests": setup.requests,
            "seeds": list(study.seeds),
            "ttftTargetMs": setup.ttft_target_ms,
            "tpotTargetMs": setup.tpot_target_ms,
            "transport": setup.transport,
        },
        "results": [
            {
                "policy": row.policy,
                "load": row.load,
                **_named(asdict(row.figures)),
                "baseline": row.baseline,
                "relativeE2eMean": _number(row.relative(lambda figures: figures.e2e_mean)),
            }
            for row in rows
        ],
    }


def _table(load: float, rows: Sequence[Row]) -> Table:
    title = f"load {load:g}, in brackets against {escape(rows[0].baseline)}"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("policy")
    for what, which, _ in TIMES:
        table.add_column(f"{what}\n{which}", justify="right")
    for name in ("in\ntime", "hand-overs\n/request", "preemp-\ntions"):
        table.add_column(name, justify="right")
    for row in rows:
        figures = row.figures
        table.add_row(
            escape(row.policy),
            *(
                f"{findings.seconds(figure(figures))}\n({row.relative(figure):.2f})"
                for _, _, figure in TIMES
            ),
            f"{figures.slo_share:.1%}",
            f"{figures.handovers:.2f}",
            f"{figures.preemptions:.0f}",
        )
    return table


_NAMES: Final = {
    "ttft_mean": "ttftMeanMs",
    "ttft_p99": "ttftP99Ms",
    "tpot_mean": "tpotMeanMs",
    "tpot_p99": "tpotP99Ms",
    "e2e_mean": "e2eMeanMs",
    "e2e_p99": "e2eP99Ms",
    "slo_share": "inTimeShare",
    "goodput": "inTimePerSecond",
    "handovers": "handoversPerRequest",
    "preemptions": "preemptionsPerRun",
    "unfinished": "unfinishedPerRun",
}


def _named(figures: dict[str, float]) -> dict[str, float | None]:
    return {_NAMES[name]: _number(value) for name, value in figures.items()}


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return round(value, 6) if math.isfinite(value) else None
