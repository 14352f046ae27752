"""What a phase took, from what the operator and the API server counted before and after. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

_SAMPLE: Final = re.compile(r"([a-z_]+)(?:\{(.*)\})? (\S+)")
_LABEL: Final = re.compile(r'([a-z_]+)="([^"]*)"')
_PASS: Final = "cascade_operator_pass_seconds_bucket"
CLOCK_TICKS: Final = 100
"""Per second, on every Linux."""
WRITE_VERBS: Final = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
OF_A_SERVICE: Final = frozenset(
    {
        "cascadeservices", "configmaps", "deployments", "endpoints", "endpointslices", "events",
        "poddisruptionbudgets", "pods", "replicasets", "rolebindings", "roles", "secrets",
        "serviceaccounts", "services",
    }
)  # fmt: skip
"""Resources that a CascadeService has, its controllers' work included. Leases of the operator and
of the nodes are not among them."""

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True)
class Vitals:
    """The operator at one moment."""

    leader: bool
    passes: Mapping[float, int]
    """Cumulative count of passes by the seconds that they took at most."""
    failed: int
    requests: Mapping[str, int]
    """To the API server, by verb; without watches and Lease."""
    writes: int
    moved: int
    rss_mb: float
    peak_mb: float
    cpu_seconds: float


@dataclass(frozen=True)
class Phase:
    """One stretch of an experiment."""

    name: str
    seconds: float
    passes: int
    pass_p50_ms: float
    pass_p99_ms: float
    failed: int
    requests_per_minute: Mapping[str, float]
    """By verb."""
    writes: int
    """Of the operator."""
    written: int
    """By anyone to objects of the services, as the API server counted them."""
    moved: int
    rss_mb: float
    peak_mb: float
    cpu_seconds: float
    """Processor time of the operator's process."""
    pass_counts: Mapping[float, int] = field(default_factory=dict, compare=False)

    @property
    def all_requests_per_minute(self) -> float:
        """Of all verbs."""
        return sum(self.requests_per_minute.values())


@dataclass(frozen=True)
class Outcome:
    """One experiment."""

    name: str
    services: int
    instances: int
    """Of each service."""
    phases: Sequence[Phase]
    ended: int
    """Warm pods that ended: nothing here scales in, so each is one too many."""
    place_seconds: float | None = None
    """From the first reading of the new traffic until every pod is where its plan wants it."""

    def phase(self, name: str) -> Phase | None:
        """The phase of that name."""
        return next((one for one in self.phases if one.name == name), None)


def samples(text: str) -> Samples:
    """The samples of a page in the text format of Prometheus, by name and sorted labels."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#") and (match := _SAMPLE.fullmatch(line)):
            labels = tuple(sorted(_LABEL.findall(match[2] or "")))
            found[match[1], labels] = float(match[3])
    return found


def vitals_of(metrics: str, proc_status: str, proc_stat: str) -> Vitals:
    """From the operator's metrics and its `/proc/PID/status` and `/proc/PID/stat`."""
    found = samples(metrics)

    def one(name: str) -> int:
        return int(found.get((f"cascade_operator_{name}", ()), 0))

    return Vitals(
        leader=bool(one("leader")),
        passes={
            float(dict(labels)["le"]): int(count)
            for (name, labels), count in found.items()
            if name == _PASS
        },
        failed=one("failed_passes_total"),
        requests={
            dict(labels)["verb"]: int(count)
            for (name, labels), count in found.items()
            if name == "cascade_operator_api_requests_total"
        },
        writes=one("api_writes_total"),
        moved=one("pods_moved_total"),
        rss_mb=_kilobytes(proc_status, "VmRSS") / 1000,
        peak_mb=_kilobytes(proc_status, "VmHWM") / 1000,
        cpu_seconds=sum(map(int, proc_stat.rpartition(")")[2].split()[11:13])) / CLOCK_TICKS,
    )


def writes_seen(api_server_metrics: str) -> int:
    """Writes to objects of CascadeServices that the API server has answered with success."""
    return sum(
        int(count)
        for (name, labels), count in samples(api_server_metrics).items()
        if name == "apiserver_request_total"
        and (label := dict(labels))["verb"] in WRITE_VERBS
        and label["resource"] in OF_A_SERVICE
        and label["code"].startswith("2")
    )


def phase_of(name: str, seconds: float, before: Vitals, after: Vitals, written: int) -> Phase:
    """What happened between two looks at the operator."""
    counts = {bound: count - before.passes.get(bound, 0) for bound, count in after.passes.items()}
    verbs = sorted({*before.requests, *after.requests})
    asked = {verb: after.requests.get(verb, 0) - before.requests.get(verb, 0) for verb in verbs}
    return Phase(
        name=name,
        seconds=round(seconds, 1),
        passes=max(counts.values(), default=0),
        pass_p50_ms=quantile_ms(counts, 0.5),
        pass_p99_ms=quantile_ms(counts, 0.99),
        failed=after.failed - before.failed,
        requests_per_minute={verb: round(60 * asked[verb] / seconds, 1) for verb in verbs},
        writes=after.writes - before.writes,
        written=written,
        moved=after.moved - before.moved,
        rss_mb=round(after.rss_mb, 1),
        peak_mb=round(after.peak_mb, 1),
        cpu_seconds=round(after.cpu_seconds - before.cpu_seconds, 2),
        pass_counts=counts,
    )


def quantile_ms(counts: Mapping[float, int], part: float) -> float:
    """Milliseconds below which this part of the passes stayed, interpolated within a bucket.

    In the last bucket, which has no end, its beginning.
    """
    bounds = sorted(counts)
    rank = part * counts[bounds[-1]] if bounds else 0.0
    if not rank:
        return 0.0
    low, below = 0.0, 0
    for bound in bounds:
        if counts[bound] >= rank:
            if bound == float("inf"):
                break
            within = (rank - below) / (counts[bound] - below)
            return round(1000 * (low + (bound - low) * within), 1)
        low, below = bound, counts[bound]
    return round(1000 * low, 1)


def together(phases: Iterable[Phase]) -> Mapping[float, int]:
    """The pass counts of several phases as one."""
    summed: dict[float, int] = {}
    for phase in phases:
        for bound, count in phase.pass_counts.items():
            summed[bound] = summed.get(bound, 0) + count
    return summed


def _kilobytes(proc_status: str, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", proc_status, re.MULTILINE)
    return float(found[1]) * 1.024 if found else 0.0
