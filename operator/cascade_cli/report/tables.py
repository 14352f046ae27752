"""The tables of the page."""

import math
from collections.abc import Sequence
from html import escape

from cascade_cli.report import findings
from cascade_cli.report.comparison import TIMES, Row
from cascade_cli.report.study import Setup, Study
from cascade_cli.report.style import Pen


def summary_table(rows: Sequence[Row], setup: Setup, colours: dict[str, Pen]) -> str:
    """All policies at one load: times absolute and against the baseline, and what was done."""
    times = "".join(f"<th>{what} {which}</th>" for what, which, _ in TIMES)
    body = "".join(_row(row, colours[row.policy]) for row in rows)
    return (
        f'<p class="soft">Load {rows[0].load:g}. Small: against {escape(rows[0].baseline)}, the '
        "strongest policy here that does not look at lengths. In time: TTFT within "
        f"{setup.ttft_target_ms:g} ms and TPOT within {setup.tpot_target_ms:g} ms.</p>"
        f'<div class="wide"><table><thead><tr><th>policy</th>{times}<th>in time</th>'
        "<th>hand-overs per request</th><th>preemptions</th><th>not ended</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def setup_list(study: Study) -> str:
    """What was simulated, and with which cost model."""
    setup = study.setup
    engine = setup.engine
    items = (
        ("Trace", f"{setup.trace}, {setup.traffic}"),
        ("Requests", f"{setup.requests:,} per run"),
        ("Loads", ", ".join(f"{load:g}" for load in study.loads)),
        ("Seeds", ", ".join(str(seed) for seed in study.seeds)),
        ("Instances", str(setup.instances)),
        ("Hand-over by", setup.transport),
        ("Targets", f"TTFT {setup.ttft_target_ms:g} ms, TPOT {setup.tpot_target_ms:g} ms"),
        ("Cost model", setup.profile),
        (
            "Decode step",
            (
                f"{engine.base_ms:g} + {engine.per_sequence_ms:g}·B + "
                f"{engine.per_kv_token_ms:g}·H·S ms"
            ),
        ),
        (
            "Prefill",
            f"{engine.prefill_ms_per_token:g}·L + {engine.prefill_ms_per_token_squared:g}·L²/2 ms",
        ),
        (
            "Uneven lengths",
            f"H = min(1.5, 1 + {engine.heterogeneity:g}·cv)"
            + ("" if engine.heterogeneity else ": they cost nothing extra"),
        ),
        ("Chunks", f"{engine.chunk_tokens:,} tokens at most in one step"),
        (
            "KV cache",
            f"{engine.kv_capacity_tokens:,} tokens, at most {engine.max_sequences} sequences",
        ),
    )
    rows = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in items)
    return f"<dl>{rows}</dl>"


def _row(row: Row, pen: Pen) -> str:
    figures = row.figures
    times = "".join(
        f"<td>{findings.seconds(figure(figures))}{_relative(row.relative(figure))}</td>"
        for _, _, figure in TIMES
    )
    swatch = f'<span class="swatch" style="background:{pen.colour}"></span>'
    return (
        f'<tr><td title="{escape(row.policy)}">{swatch}{escape(row.policy)}</td>{times}'
        f"<td>{figures.slo_share:.1%}</td><td>{figures.handovers:.2f}</td>"
        f"<td>{figures.preemptions:.0f}</td><td>{figures.unfinished:.0f}</td></tr>"
    )


def _relative(ratio: float) -> str:
    if not math.isfinite(ratio):
        return "<small>–</small>"
    judged = "good" if ratio < 0.99 else "bad" if ratio > 1.01 else ""
    return f'<small class="{judged}">{findings.percent(ratio)}</small>'
