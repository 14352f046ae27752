"""What the router is held to, judged on a run's figures."""

from collections.abc import Iterable, Sequence
from typing import Final

from e2e.bench.goal import Goal
from e2e.bench.rivals import RIVALS
from e2e.bench.router_bench.cells import MEMORY_STREAMS, MEMORY_TOKENS
from e2e.bench.router_bench.contestants import OURS_1, OURS_2
from e2e.bench.router_bench.figures import Held, Row

HOP_RATIO: Final = 1.0
BOTH_HOPS_RATIO: Final = 1.5
RSS_MB: Final = 120.0


def judged(rows: Sequence[Row], held: Sequence[Held]) -> list[Goal]:
    """All goals that the figures can tell of."""
    return [*_cpu(rows), *_latency(rows), *_memory(held)]


def _cpu(rows: Sequence[Row]) -> Iterable[Goal]:
    for row in rows:
        for router, limit, what in (
            (OURS_1, HOP_RATIO, "CPU per event, one hop"),
            (OURS_2, BOTH_HOPS_RATIO, "CPU per event, both hops"),
        ):
            if row.router == router and row.ratio is not None:
                yield Goal(
                    f"{what}, {_where(row)}",
                    f"{row.ratio.median:.2f} x",
                    f"{limit:g} x best Rust router",
                    row.ratio.median <= limit,
                )


def _latency(rows: Sequence[Row]) -> Iterable[Goal]:
    best: dict[tuple[str, int], float] = {}
    for row in rows:
        if row.router in RIVALS and row.itl_p99_ms is not None:
            place = row.pace, row.streams
            best[place] = min(row.itl_p99_ms, best.get(place, row.itl_p99_ms))
    for row in rows:
        limit = best.get((row.pace, row.streams))
        if row.router == OURS_1 and row.itl_p99_ms is not None and limit is not None:
            yield Goal(
                f"added inter-token p99, one hop, {_where(row)}",
                f"{row.itl_p99_ms:.2f} ms",
                f"{limit:.2f} ms, best Rust router",
                row.itl_p99_ms <= limit,
            )


def _memory(held: Sequence[Held]) -> Iterable[Goal]:
    for one in held:
        if one.router not in (OURS_1, OURS_2):
            continue
        what = f"RSS with {MEMORY_STREAMS:,} streams of {MEMORY_TOKENS:,} tokens, {one.router}"
        most = max(one.rss_mb.values(), default=0.0)
        value = f"{most:.0f} MB" if one.failure is None else "failed"
        met = one.failure is None and most <= RSS_MB
        yield Goal(what, value, f"{RSS_MB:g} MB", met)


def _where(row: Row) -> str:
    return f"{row.pace}, {row.streams:,} stream{'s' if row.streams > 1 else ''}"
