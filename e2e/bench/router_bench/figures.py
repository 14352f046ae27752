"""The figures of a whole run, from the outcomes of its measurements: by router and stream count."""

import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from e2e.bench.rivals import RIVALS, versions
from e2e.bench.router_bench.cells import Kind, Outcome, Plan
from e2e.bench.router_bench.contestants import DIRECT, FRONT, ROUTER, TARGET
from e2e.bench.router_bench.measurement import Spread, added, ratios, spread
from e2e.bench.router_bench.wire import PROMPT_TOKENS

ROLES: Final = (FRONT, TARGET, ROUTER)
"""Processes that are routers, not engine or client."""

ByRepeat = dict[int, float]


@dataclass(frozen=True)
class Row:
    """One router at one pace and stream count; None where there is no figure."""

    pace: str
    streams: int
    router: str
    cpu_us: Spread | None
    """CPU per event of all its processes together."""
    ratio: Spread | None
    """The same as a multiple of the best Rust router's."""
    kernel: float | None
    """Share of the CPU time that is the kernel's."""
    by_role: Mapping[str, float]
    """CPU per event of each process, where there are several."""
    itl_p50_ms: float | None
    itl_p99_ms: float | None
    """Added to the time of an event from the engine to the client."""
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    rss_mb: float | None
    """Of the largest of its processes."""
    rate: float | None
    """Events per second that came through."""
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Requests:
    """Short unstreamed requests through one router."""

    router: str
    per_second: Spread | None
    cpu_us: Spread | None
    p50_ms: float | None
    p99_ms: float | None
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Held:
    """Memory with long streams open."""

    router: str
    rss_mb: Mapping[str, float]
    pss_mb: Mapping[str, float]
    failure: str | None


@dataclass(frozen=True)
class Ceiling:
    """What engine and client of the bench can do without a router: events per second when the
    engine sends as fast as it can, and CPU per event at the pace of the bench."""

    events_per_second: float
    engine_us: float
    client_us: float


class Figures:
    """Looks figures up in outcomes."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self._outcomes = list(outcomes)

    def rows(self) -> list[Row]:
        """All routers by pace and stream count, in the order in which they were measured."""
        good = [one for one in self._outcomes if one.cell.kind is Kind.STREAMS]
        paces = dict.fromkeys(pace for one in good for pace in one.figures.get("paces", ()))
        counts = dict.fromkeys(one.cell.streams for one in good)
        routers = dict.fromkeys(one.cell.contestant for one in good)
        return [
            self._row(pace, streams, router)
            for pace in paces
            for streams in counts
            for router in routers
            if self._of(Kind.STREAMS, router, streams)
        ]

    def requests(self) -> list[Requests]:
        """Unstreamed requests by router."""
        found = []
        for router in self._routers(Kind.REQUESTS):
            outcomes = self._of(Kind.REQUESTS, router, 0)
            found.append(
                Requests(
                    router,
                    spread(list(_values(outcomes, lambda f: f["perSecond"]).values())),
                    spread(list(_values(outcomes, _cpu_of_all).values())),
                    _median_ms(_values(outcomes, lambda f: f["latencyUs"]["p50"]).values()),
                    _median_ms(_values(outcomes, lambda f: f["latencyUs"]["p99"]).values()),
                    _failures(outcomes),
                )
            )
        return found

    def held(self) -> list[Held]:
        """Memory by router."""
        return [
            Held(
                one.cell.contestant,
                {role: one.figures["memory"][role]["rss_mb"] for role in _roles(one)},
                {role: one.figures["memory"][role]["pss_mb"] for role in _roles(one)},
                one.failure,
            )
            for one in self._outcomes
            if one.cell.kind is Kind.MEMORY
        ]

    def ceiling(self) -> Ceiling | None:
        """Of engine and client, if it was measured."""
        for one in self._outcomes:
            if one.cell.kind is Kind.CEILING and one.figures:
                ((_, steady),) = one.figures["paces"].items()
                return Ceiling(
                    steady["events"] / steady["seconds"],
                    steady["cpu"]["engine"]["us"],
                    steady["cpu"]["client"]["us"],
                )
        return None

    def _row(self, pace: str, streams: int, router: str) -> Row:
        outcomes = self._of(Kind.STREAMS, router, streams)
        direct = self._of(Kind.STREAMS, DIRECT, streams)
        rivals = [self._of(Kind.STREAMS, name, streams) for name in RIVALS]

        def of(which: Sequence[Outcome], get: Callable[[Mapping[str, Any]], float]) -> ByRepeat:
            return _values(which, lambda figures: get(figures["paces"][pace]))

        def more(get: Callable[[Mapping[str, Any]], float]) -> float | None:
            return _median_ms(added(of(outcomes, get), of(direct, get)))

        cpu = of(outcomes, _cpu_of_all) if router != DIRECT else {}
        roles = _roles(outcomes[0]) if outcomes else []
        return Row(
            pace,
            streams,
            router,
            cpu_us=spread(list(cpu.values())),
            ratio=spread(ratios(cpu, [of(rival, _cpu_of_all) for rival in rivals])),
            kernel=_median(of(outcomes, _kernel_of_all).values()) if cpu else None,
            by_role={
                role: value
                for role in (roles if len(roles) > 1 else ())
                if (value := _median(of(outcomes, partial(_cpu_of, role)).values())) is not None
            },
            itl_p50_ms=more(lambda f: f["delayUs"]["p50"]),
            itl_p99_ms=more(lambda f: f["delayUs"]["p99"]),
            ttft_p50_ms=more(lambda f: f["ttftUs"]["p50"]),
            ttft_p99_ms=more(lambda f: f["ttftUs"]["p99"]),
            rss_mb=_median(_values(outcomes, _largest_rss).values()) if cpu else None,
            rate=_median(of(outcomes, lambda f: f["events"] / f["seconds"]).values()),
            failures=_failures(outcomes),
        )

    def _of(self, kind: Kind, router: str, streams: int) -> list[Outcome]:
        return [
            one
            for one in self._outcomes
            if (one.cell.kind, one.cell.contestant, one.cell.streams) == (kind, router, streams)
        ]

    def _routers(self, kind: Kind) -> list[str]:
        return list(
            dict.fromkeys(one.cell.contestant for one in self._outcomes if one.cell.kind is kind)
        )


def _values(outcomes: Iterable[Outcome], get: Callable[[Mapping[str, Any]], float]) -> ByRepeat:
    """A figure by repetition, of those that went well."""
    return {one.cell.repeat: get(one.figures) for one in outcomes if one.failure is None}


def _roles(outcome: Outcome) -> list[str]:
    memory = outcome.figures.get("memory", {})
    return [role for role in ROLES if role in memory]


def _cpu_of(role: str, figures: Mapping[str, Any]) -> float:
    return float(figures["cpu"][role]["us"])


def _cpu_of_all(figures: Mapping[str, Any]) -> float:
    return float(sum(figures["cpu"][role]["us"] for role in ROLES if role in figures["cpu"]))


def _kernel_of_all(figures: Mapping[str, Any]) -> float:
    used = [figures["cpu"][role] for role in ROLES if role in figures["cpu"]]
    return float(sum(one["us"] * one["kernel"] for one in used) / sum(one["us"] for one in used))


def _largest_rss(figures: Mapping[str, Any]) -> float:
    memory = figures["memory"]
    return max((float(memory[role]["rss_mb"]) for role in ROLES if role in memory), default=0.0)


def _median(values: Iterable[float]) -> float | None:
    found = spread(list(values))
    return found.median if found is not None else None


def _median_ms(microseconds: Iterable[float]) -> float | None:
    median = _median(microseconds)
    return median / 1000 if median is not None else None


def _failures(outcomes: Iterable[Outcome]) -> tuple[str, ...]:
    return tuple(one.failure for one in outcomes if one.failure is not None)


def as_json(outcomes: Sequence[Outcome], plan: Plan) -> dict[str, Any]:
    """What `--json` writes: figures by pace, router and stream count; then every measurement."""
    figures = Figures(outcomes)
    rows, requests = figures.rows(), figures.requests()
    ceiling = figures.ceiling()

    def by_row(get: Callable[[Row], float | None]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for row in rows:
            value = get(row)
            if value is not None:
                by_router = table.setdefault(row.pace, {}).setdefault(row.router, {})
                by_router[str(row.streams)] = round(value, 3)
        return table

    return {
        "cpuPerEventUs": by_row(lambda row: row.cpu_us.median if row.cpu_us else None),
        "cpuPerEventUsLeast": by_row(lambda row: row.cpu_us.least if row.cpu_us else None),
        "cpuPerEventUsMost": by_row(lambda row: row.cpu_us.most if row.cpu_us else None),
        "cpuPerEventUsFront": by_row(lambda row: row.by_role.get(FRONT)),
        "cpuPerEventUsTarget": by_row(lambda row: row.by_role.get(TARGET)),
        "cpuRatioToBestRust": by_row(lambda row: row.ratio.median if row.ratio else None),
        "kernelShare": by_row(lambda row: row.kernel),
        "addedItlP50Ms": by_row(lambda row: row.itl_p50_ms),
        "addedItlP99Ms": by_row(lambda row: row.itl_p99_ms),
        "addedTtftP50Ms": by_row(lambda row: row.ttft_p50_ms),
        "addedTtftP99Ms": by_row(lambda row: row.ttft_p99_ms),
        "rssMb": by_row(lambda row: row.rss_mb),
        "eventsPerSecond": by_row(lambda row: row.rate),
        "requestsPerSecond": {
            one.router: one.per_second and round(one.per_second.median, 1) for one in requests
        },
        "cpuPerRequestUs": {
            one.router: one.cpu_us and round(one.cpu_us.median, 1) for one in requests
        },
        "longStreamsRssMb": {
            one.router: {role: round(mb, 1) for role, mb in one.rss_mb.items()}
            for one in figures.held()
        },
        "ceiling": asdict(ceiling) if ceiling else None,
        "setting": _setting(plan),
        "failures": [
            {"cell": str(one.cell), "failure": one.failure} for one in outcomes if one.failure
        ],
        "measurements": [{**asdict(one.cell), **one.figures} for one in outcomes],
    }


def _setting(plan: Plan) -> dict[str, Any]:
    return {
        "eventsPerSecond": plan.rate,
        "seconds": plan.seconds,
        "repeat": plan.repeat,
        "promptTokens": PROMPT_TOKENS,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "routers": versions(),
    }
