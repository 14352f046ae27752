"""Policies by name: a base, and modifiers joined to it by `+`.

`price+handover+prefix` is `price` with hand-over of running sequences and knowledge of what prefix
caches hold. The order of modifiers does not matter.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Final

from cascade_planner.partition import Partition
from cascade_planner.plan import PlanOptions, solve
from cascade_policy.stage_map import Boundaries
from cascade_simulator.policies.admitting import Admission, Admitting, AdmittingReview
from cascade_simulator.policies.assembled import Assembled, Loop, Placement, Reviewer
from cascade_simulator.policies.blind import LeastRequests, LeastTokens, Random, RoundRobin
from cascade_simulator.policies.equal_work import equal_work
from cascade_simulator.policies.hard_stages import HardStages
from cascade_simulator.policies.least_work import LeastWork
from cascade_simulator.policies.llumnix import Freest, Migration
from cascade_simulator.policies.load_ratio import LoadRatio
from cascade_simulator.policies.observations import Observations
from cascade_simulator.policies.overflow import Overflow, StaysWhenSlower
from cascade_simulator.policies.priced import Priced, expected, foreseen
from cascade_simulator.policies.refining import Refining
from cascade_simulator.policies.replanning import Replanning
from cascade_simulator.policies.reviewing import Reviewing
from cascade_simulator.policies.setup import Setup
from cascade_simulator.policies.spill import Spill
from cascade_simulator.policies.staging import Staging, one_stage
from cascade_simulator.policies.sticky import Sticky
from cascade_simulator.policy import Policy

MAX_STAGES: Final = 8
SPLIT_STAGES: Final = 4
"""Stages of `static-split`: enough to keep short from long, few enough to pool instances."""


class UnknownPolicy(ValueError):
    """No policy of that name; the message lists the known ones."""


class Modifier(StrEnum):
    """What may be added to a base."""

    HANDOVER = "handover"
    PREFIX = "prefix"
    REPLAN = "replan"
    ORACLE = "oracle"
    SLICES = "slices"


_MEANING: Final = {
    Modifier.HANDOVER: "running sequences are reviewed once a slice and handed over",
    Modifier.PREFIX: "it knows what prefix caches hold",
    Modifier.REPLAN: "it plans anew from the traffic of the past minutes",
    Modifier.ORACLE: "it knows how long each answer will be",
    Modifier.SLICES: "a sequence starts only where its next slice fits, and waits at the front",
}


@dataclass(frozen=True, slots=True)
class _Parts:
    """What bases are built from."""

    setup: Setup
    staging: Staging
    observations: Observations
    modifiers: frozenset[Modifier]
    admission: Admission | None

    @property
    def prefix(self) -> bool:
        return Modifier.PREFIX in self.modifiers

    @property
    def least_work(self) -> LeastWork:
        return LeastWork(self.staging, self.observations, prefix=self.prefix)

    @property
    def priced(self) -> Placement:
        remaining = foreseen if Modifier.ORACLE in self.modifiers else expected
        priced = Priced(self.staging, prefix=self.prefix, remaining=remaining)
        return priced if self.admission is None else Admitting(priced, self.admission)

    @property
    def reviewing(self) -> Reviewer:
        remaining = foreseen if Modifier.ORACLE in self.modifiers else expected
        reviewing = Reviewing(self.staging, prefix=self.prefix, remaining=remaining)
        return reviewing if self.admission is None else AdmittingReview(reviewing, self.admission)


@dataclass(frozen=True, slots=True)
class _Base:
    """A policy without modifiers, and those that it takes."""

    sentence: str
    placement: Callable[[_Parts], Placement]
    takes: tuple[Modifier, ...] = (Modifier.HANDOVER,)
    partition: Callable[[Setup], Partition] = one_stage
    boundaries: Boundaries = Boundaries.SOFT
    replans: int = 0
    """Most stages of the plans that it makes as it runs; 0 = none unless modified."""
    loops: Callable[[_Parts], tuple[Loop, ...]] = lambda _: ()
    reviewer: Callable[[_Parts], Reviewer] = lambda parts: parts.reviewing


def _planned(setup: Setup) -> Partition:
    """The best plan for what is known before the run."""
    if setup.traffic is None:
        return one_stage(setup)
    options = PlanOptions(max_stages=MAX_STAGES, crossing=setup.crossing)
    plan = solve(setup.traffic, setup.engine, setup.instances, setup.objective, options)
    return plan.partition


def _halves(setup: Setup) -> Partition:
    return equal_work(setup, min(2, setup.instances))


def _quarters(setup: Setup) -> Partition:
    return equal_work(setup, min(SPLIT_STAGES, setup.instances))


def _hard(parts: _Parts) -> Placement:
    return HardStages(parts.staging, parts.least_work)


def _refining(parts: _Parts) -> tuple[Loop, ...]:
    return (Refining(parts.setup, parts.staging, parts.observations),)


def _migration(*, balanced: bool) -> Callable[[_Parts], tuple[Loop, ...]]:
    return lambda parts: (Migration(parts.staging, balanced=balanced),)


_CACHED: Final = (Modifier.HANDOVER, Modifier.PREFIX)
_STAGED: Final = (Modifier.HANDOVER, Modifier.PREFIX, Modifier.REPLAN)
_PRICED: Final = (Modifier.HANDOVER, Modifier.PREFIX, Modifier.ORACLE, Modifier.SLICES)

_BASES: Final[dict[str, _Base]] = {
    "round-robin": _Base("one instance after the other", lambda _: RoundRobin()),
    "random": _Base("any instance, with equal chance", lambda p: Random(p.staging)),
    "least-requests": _Base("the fewest sequences", lambda p: LeastRequests(p.staging)),
    "least-tokens": _Base("the fewest tokens in the KV cache", lambda p: LeastTokens(p.staging)),
    "least-work": _Base(
        "the least waiting prefill and decode work, the strongest dispatch that is blind to length",
        lambda p: p.least_work,
        _CACHED,
    ),
    "sticky": _Base(
        "the instance that served the session before, else the least work",
        lambda p: Sticky(p.least_work),
    ),
    "llumnix-dispatch": _Base(
        "Llumnix' dispatch alone: the most free KV memory per request",
        lambda p: Freest(p.staging),
        (),
    ),
    "llumnix": _Base(
        "Llumnix: dispatch by freeness, and live migration where memory runs out",
        lambda p: Freest(p.staging),
        (),
        loops=_migration(balanced=False),
    ),
    "llumnix-balanced": _Base(
        "Llumnix with its other pair rule: live migration that evens out freeness",
        lambda p: Freest(p.staging),
        (),
        loops=_migration(balanced=True),
    ),
    "dual-pool": _Base(
        "two pools by token budget with equal work, spilling over when one is overloaded",
        lambda p: Spill(p.staging, p.least_work),
        _CACHED,
        partition=_halves,
        boundaries=Boundaries.HARD,
    ),
    "static-split": _Base(
        f"up to {SPLIT_STAGES} stages with equal work each, least work inside, no plan",
        _hard,
        _CACHED,
        partition=_quarters,
        boundaries=Boundaries.HARD,
    ),
    "cascade-hard": _Base(
        "the planner's stages with hard boundaries, least work inside",
        _hard,
        _STAGED,
        partition=_planned,
        boundaries=Boundaries.HARD,
    ),
    "cascade-hard-price": _Base(
        "the planner's stages with hard boundaries, the router's price inside",
        lambda p: p.priced,
        (*_STAGED, Modifier.ORACLE),
        partition=_planned,
        boundaries=Boundaries.HARD,
    ),
    "cascade-refined": _Base(
        "hard stages whose boundaries the fast loop refines by the planner's objective",
        _hard,
        _STAGED,
        partition=_planned,
        boundaries=Boundaries.HARD,
        loops=_refining,
    ),
    "cascade-ratio": _Base(
        "hard stages whose boundaries move towards the more loaded stage, as in the paper",
        _hard,
        _STAGED,
        partition=_planned,
        boundaries=Boundaries.HARD,
        loops=lambda p: (LoadRatio(p.staging, p.observations),),
    ),
    "cascade-overflow": _Base(
        "hard stages that overflow to a neighbour by predicted cost, with a handicap",
        lambda p: Overflow(p.staging, p.least_work),
        (Modifier.HANDOVER, Modifier.REPLAN),
        partition=_planned,
        boundaries=Boundaries.HARD,
        reviewer=lambda p: StaysWhenSlower(p.staging, p.reviewing),
    ),
    "cascade": _Base(
        "what the router does: the plan decides who is asked, the price who gets it; both loops",
        lambda p: p.priced,
        _PRICED,
        partition=_planned,
        replans=MAX_STAGES,
        loops=_refining,
    ),
    "price": _Base(
        "the router's price without stages",
        lambda p: p.priced,
        _PRICED,
        replans=1,
    ),
}


def make(name: str, setup: Setup) -> Policy:
    """The policy called `name`, for one run. Raises UnknownPolicy."""
    base, modifiers = _parse(name)
    handover = Modifier.HANDOVER in modifiers
    staging = Staging(setup, base.partition(setup), base.boundaries, handover=handover)
    admission = Admission(staging) if Modifier.SLICES in modifiers else None
    parts = _Parts(setup, staging, Observations(setup), modifiers, admission)
    max_stages = MAX_STAGES if Modifier.REPLAN in modifiers else base.replans
    if not max_stages and handover and len(staging.map.stages) == 1:
        max_stages = 1  # A review needs to know what output to expect.
    slow: tuple[Loop, ...] = ()
    if max_stages:
        slow = (Replanning(setup, staging, parts.observations, max_stages),)
    return Assembled(
        name=_canonical(name),
        placement=base.placement(parts),
        staging=staging,
        observations=parts.observations,
        reviewer=base.reviewer(parts) if handover else None,
        loops=(*slow, *base.loops(parts)),
    )


def describe(name: str) -> str:
    """What the policy called `name` does, in one sentence. Raises UnknownPolicy."""
    base, modifiers = _parse(name)
    said = [base.sentence, *(_MEANING[one] for one in Modifier if one in modifiers)]
    sentence = "; ".join(said)
    return sentence[0].upper() + sentence[1:] + "."


def _names() -> Iterator[str]:
    for base, parts in _BASES.items():
        for count in range(len(parts.takes) + 1):
            for chosen in combinations(parts.takes, count):
                yield "+".join((base, *chosen))


NAMES: Final = tuple(_names())
"""Every policy."""


def _parse(name: str) -> tuple[_Base, frozenset[Modifier]]:
    canonical = _canonical(name)
    if canonical not in NAMES:
        raise UnknownPolicy(f"policy {name!r} is not known; use one of {_known()}")
    base, *modifiers = canonical.split("+")
    return _BASES[base], frozenset(Modifier(one) for one in modifiers)


def _canonical(name: str) -> str:
    """The name with its modifiers in the order of NAMES."""
    base, *modifiers = name.split("+")
    order = [one.value for one in Modifier]
    known = sorted(set(modifiers) & set(order), key=order.index)
    return "+".join((base, *known, *sorted(set(modifiers) - set(order))))


def _known() -> str:
    return ", ".join(
        base + "".join(f"[+{one}]" for one in parts.takes) for base, parts in _BASES.items()
    )
