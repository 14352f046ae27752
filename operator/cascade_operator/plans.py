"""The plan in force: which stages, which ranges, how many instances, and since when.

It lives as JSON in an annotation of the stage map's ConfigMap, so that an operator that starts
anew goes on where the last one was. Lengths in tokens, both ends of a range included.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import msgspec

from cascade_operator.spec import Mode, ServiceSpec
from cascade_planner.explain import describe
from cascade_planner.partition import Partition


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A range of lengths and the number of instances that serve it."""

    min_length: int
    max_length: int
    instances: int


@dataclass(frozen=True, slots=True)
class TrafficSummary:
    """What the plan was made from."""

    requests_per_second: float
    prompt_tokens_mean: float
    output_tokens_mean: float
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Trial:
    """A plan that has yet to show that requests are not worse off than before. Unix seconds."""

    former: "PlanRecord"
    """The plan before, without a trial of its own: what is returned to."""
    worth: float
    """Measured over predicted mean end-to-end time, of and with the plan before."""
    variance: float
    """Relative variance of that, by chance."""
    generation: int
    """Of the spec: what is measured under another one is not compared."""
    began: float
    placed: float = 0.0
    """Since when every instance serves where the plan wants it. 0 = they do not."""
    read: float = 0.0
    """When a window was read last. 0 = none since then."""
    worse: int = 0
    """Windows in a row that were clearly worse."""
    fine: int = 0
    """Windows in a row that were not."""


@dataclass(frozen=True, slots=True)
class Penalty:
    """What follows from a plan that was returned from."""

    plan: str
    """Its id."""
    until: float
    """When the next change may come (unix seconds)."""
    returns: int
    """How many plans were returned from in a row."""


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A plan as the operator keeps it. `time` and `moved` are unix seconds."""

    id: str
    time: float
    """When it was made; of one that was approved, or returned to, since when it is in force."""
    moved: float
    """When instance counts changed last: what the cooldown counts from. 0 = never."""
    stages: tuple[PlannedStage, ...]
    gain_percent: float | None = None
    """Predicted gain over a single stage, None where nothing was predicted."""
    explanation: str = ""
    expected_remaining: tuple[tuple[int, float], ...] = ()
    traffic: TrafficSummary | None = None
    proposal: "PlanRecord | None" = None
    """In Advisory mode, the plan that waits for approval in place of this one."""
    approved: str = ""
    """The id in the annotation that was followed last. It counts once: a plan that was left since
    does not come back by an approval that nobody renewed."""
    trial: Trial | None = None
    penalty: Penalty | None = None

    @property
    def counts(self) -> tuple[int, ...]:
        """Instances per stage."""
        return tuple(stage.instances for stage in self.stages)

    @property
    def partition(self) -> Partition:
        """Boundaries and counts alone."""
        return Partition(tuple(stage.max_length for stage in self.stages), self.counts)

    def dumps(self) -> str:
        """Stable JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def loads(cls, text: str | None) -> "PlanRecord | None":
        """Read `dumps`; None when there is nothing or nothing that makes sense."""
        try:
            return _read(msgspec.json.decode(text or ""))
        except (ValueError, TypeError, RecursionError):
            return None

    def as_of(self, now: float) -> "PlanRecord":
        """The plan with no time after `now` (unix seconds): where a clock was set back, a cooldown
        would not end otherwise."""
        trial = self.trial
        if trial is not None:
            trial = replace(
                trial,
                former=trial.former.as_of(now),
                began=_until(now, trial.began),
                placed=_until(now, trial.placed),
                read=_until(now, trial.read),
            )
        return replace(
            self,
            time=_until(now, self.time),
            moved=_until(now, self.moved),
            proposal=self.proposal and self.proposal.as_of(now),
            trial=trial,
        )


def _read(data: Any) -> PlanRecord:
    """Raises ValueError or TypeError where the ranges, or what they came from, make no sense.

    What a newer operator added is left out, and so is each part beside the ranges that it writes
    in another shape: without its plan a service falls back to one stage, and all instances move.
    """
    rest = dict(data)
    parts = {name: _part(read, rest.pop(name, None)) for name, read in _PARTS.items()}
    record = replace(msgspec.convert(rest, PlanRecord), **parts)
    # A partition that cannot be is refused where it is made.
    return replace(record, stages=stages_of(record.partition))


def _read_trial(data: Any) -> Trial:
    return replace(msgspec.convert(data, Trial), former=_read(data["former"]))


def _part(read: Callable[[Any], object], data: Any) -> Any:
    try:
        return read(data)
    except (ValueError, TypeError, KeyError):
        return None


_PARTS: Final[Mapping[str, Callable[[Any], object]]] = {
    "traffic": lambda data: msgspec.convert(data, TrafficSummary),
    "penalty": lambda data: msgspec.convert(data, Penalty),
    "trial": _read_trial,
    "proposal": _read,
}


def _until(now: float, time: float) -> float:
    return max(0.0, min(time, now))


def stages_of(partition: Partition) -> tuple[PlannedStage, ...]:
    """The ranges of a partition, joined without gap."""
    starts = (0, *(end + 1 for end in partition.ends[:-1]))
    return tuple(
        PlannedStage(start, end, count)
        for start, end, count in zip(starts, partition.ends, partition.instances, strict=True)
    )


def first_plan(spec: ServiceSpec, now: float) -> PlanRecord:
    """The plan before any traffic is known: one stage, or the boundaries fixed by hand."""
    ends = (*_fixed(spec), spec.max_length)
    even = Partition(ends, share(spec.instances, (1,) * len(ends)))
    return PlanRecord(id=even.id, time=now, moved=0.0, stages=stages_of(even))


def fit(plan: PlanRecord, spec: ServiceSpec) -> PlanRecord:
    """The plan adapted to a changed spec, itself if it fits already.

    Boundaries beyond maxLength (or all, when others are fixed by hand) go with their stages;
    instances are added and taken away in the old proportions, and none changes its stage for it.
    What was proposed in place of the old plan, and what it was compared with, goes with it.
    """
    kept = tuple(bound for bound in plan.partition.ends[:-1] if bound < spec.max_length)
    ends = (*(_fixed(spec) or kept), spec.max_length)
    counts = plan.partition.instances
    if len(ends) > len(counts):
        counts = (1,) * len(ends)
    elif len(ends) < len(counts):
        counts = (*counts[: len(ends) - 1], sum(counts[len(ends) - 1 :]))
    if len(ends) > spec.instances:
        ends, counts = ends[-spec.instances :], counts[-spec.instances :]
    fitted = Partition(ends, resize(spec.instances, counts))
    if fitted == plan.partition:
        return plan
    return replace(
        plan,
        id=fitted.id,
        stages=stages_of(fitted),
        gain_percent=None,
        explanation=f"{describe(fitted)}: the plan before, adapted to the changed spec.",
        proposal=None,
        trial=None,
    )


def _fixed(spec: ServiceSpec) -> tuple[int, ...]:
    """Boundaries that the user set and wants applied."""
    return spec.planning.boundaries if spec.planning.mode is Mode.ACTIVE else ()


def share(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Split `total` in the proportions of `weights`, at least one each (largest remainder).

    Needs total >= len(weights) >= 1.
    """
    free = total - len(weights)
    exact = [free * weight / sum(weights) for weight in weights]
    counts = [1 + int(part) for part in exact]
    order = sorted(range(len(weights)), key=lambda index: (int(exact[index]) - exact[index], index))
    for index in order[: total - sum(counts)]:
        counts[index] += 1
    return tuple(counts)


def resize(total: int, counts: Sequence[int]) -> tuple[int, ...]:
    """`counts` brought to `total` in their proportions: all grow or stay, or all shrink or stay.

    Where `share` would take from one to give to another, it is followed as far as it goes. Needs
    total >= len(counts) >= 1.
    """
    sizes, wanted = list(counts), share(total, counts)
    step = 1 if total > sum(counts) else -1
    while sum(sizes) != total:
        # The one that is furthest from its share; the shorter lengths first. None falls below its
        # share, which is at least 1: then the sum would be below the total.
        chosen = max(range(len(sizes)), key=lambda i: (step * (wanted[i] - sizes[i]), -i))
        sizes[chosen] += step
    return tuple(sizes)


def word(counts: Sequence[int]) -> str:
    """The counts as a word: `4|8|4`."""
    return "|".join(str(count) for count in counts)
