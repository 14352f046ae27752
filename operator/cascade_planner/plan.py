"""The plan: which stages, how many instances each, and what that is predicted to bring."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from cascade_planner.forecast import Forecast as Forecast
from cascade_planner.forecast import mean_forecast, stage_forecasts
from cascade_planner.objective import RECOMPUTE, Crossing, Objective
from cascade_planner.partition import EQUAL, Partition, Solution
from cascade_planner.pricing import Pricing
from cascade_planner.solver import Solver, best_partitions
from cascade_planner.stage_cost import MAX_KV_USE, MAX_LOAD, StageState
from cascade_planner.traffic import Traffic
from cascade_policy.engine_model import EngineModel
from cascade_policy.grid import POINTS_PER_DOUBLING

ALL_BOUNDS: Final = 2 ** (1 / POINTS_PER_DOUBLING)
"""Bucket ratio that lets a stage end at every bound of the length grid."""


class Binding(StrEnum):
    """What keeps a plan from being better."""

    STABILITY = "Stability"
    KV_CAPACITY = "KvCapacity"
    MAX_SEQUENCES = "MaxSequences"
    TIME_TO_FIRST_TOKEN = "TimeToFirstToken"
    TIME_PER_OUTPUT_TOKEN = "TimePerOutputToken"
    MAX_STAGES = "MaxStages"
    INSTANCES = "Instances"
    FIXED_BOUNDARIES = "FixedBoundaries"


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Limits of the search."""

    max_stages: int = 8
    bucket_ratio: float = 2**0.5
    """Ratio of neighbouring lengths where stages may end; ALL_BOUNDS for the whole grid."""
    boundaries: tuple[int, ...] | None = None
    """Stage ends set by hand (tokens, the maximum left out): only counts are solved."""
    crossing: Crossing = RECOMPUTE

    def __post_init__(self) -> None:
        if self.max_stages < 1:
            raise ValueError(f"max_stages must be at least 1, not {self.max_stages}")
        if not 1 < self.bucket_ratio < math.inf:
            raise ValueError(f"bucket_ratio must be above 1, not {self.bucket_ratio}")


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """Lengths min_length..max_length (tokens, both included) on `instances` instances."""

    min_length: int
    max_length: int
    instances: int
    forecast: Forecast | None = None


@dataclass(frozen=True, slots=True)
class Alternative:
    """A partition that was priced, and its cost."""

    partition: Partition
    cost: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages to run, and the reasons. Costs are request-ms per ms of the objective."""

    stages: tuple[PlannedStage, ...]
    cost: float = 0.0
    one_stage_cost: float = 0.0
    best_by_stage_count: tuple[Alternative, ...] = ()
    """The best partition for each number of stages, ascending."""
    runner_up: Alternative | None = None
    """The best of another number of stages."""
    gain_percent: float = 0.0
    """Cost saved against one stage."""
    binding: tuple[Binding, ...] = ()
    forecast: Forecast | None = None
    one_stage_forecast: Forecast | None = None
    solver: Solver | None = None
    """The search that found it; none where there was nothing to search."""
    gap_percent: float = 0.0
    """Share of the cost by which the best partition might be cheaper; 0 where this one is it."""

    @property
    def partition(self) -> Partition:
        """Boundaries and counts alone."""
        return Partition(
            tuple(stage.max_length for stage in self.stages),
            tuple(stage.instances for stage in self.stages),
        )

    @property
    def id(self) -> str:
        """Short hash of boundaries and counts."""
        return self.partition.id


def solve(
    traffic: Traffic,
    engine_model: EngineModel,
    instances: int,
    objective: Objective | None = None,
    options: PlanOptions | None = None,
    current: Partition | None = None,
) -> Plan:
    """The cheapest partition of `instances` instances for `traffic`.

    Exact, or within `gap_percent`, over the lengths where stages may end; the ends of `current`
    are among them, and a plan is never worse than the present one with as many instances. Of
    equal costs, fewer stages win. Raises ValueError when `instances` is below 1.
    """
    if instances < 1:
        raise ValueError(f"a plan needs at least 1 instance, not {instances}")
    options = options or PlanOptions()
    pricing = Pricing(traffic, engine_model, objective or Objective(), options.crossing)
    lengths = candidate_ends(traffic, options, current)
    stage_counts = _stage_counts(options, len(lengths), instances)
    costs = pricing.stages_between(lengths)
    search = best_partitions(costs, len(lengths), instances, stage_counts)
    solutions = search.solutions
    ranked = tuple(_alternative(solution, lengths) for solution in solutions)
    if options.boundaries is not None:
        chosen, at_least = ranked[-1], solutions[-1].at_least
    else:
        if current is not None and current.total == instances:
            ranked = _with_present(ranked, current, pricing)
        chosen = _fewest_stages_of_the_best(ranked)
        at_least = min(solution.at_least for solution in solutions)
    plan = _describe(chosen, ranked, pricing, options)
    return replace(
        plan, solver=search.solver, gap_percent=100 * max(0.0, 1 - at_least / chosen.cost)
    )


def one_stage_plan(max_length: int, instances: int) -> Plan:
    """The plan for no known traffic: every instance serves every length."""
    return Plan(stages=_stages(Partition((max_length,), (instances,)), (None,)))


def candidate_ends(
    traffic: Traffic, options: PlanOptions, current: Partition | None = None
) -> tuple[int, ...]:
    """Lengths where a stage may end, ascending, the maximum last.

    Those set by hand; or the grid's, and the ends of `current`, where there is traffic between.
    """
    if options.boundaries is not None:
        inside = {end for end in options.boundaries if 0 < end < traffic.max_length}
        return (*sorted(inside), traffic.max_length)
    step = max(1, round(math.log2(options.bucket_ratio) * POINTS_PER_DOUBLING))
    ends = {int(bound) for bound in traffic.bounds[1::step]} | {traffic.max_length}
    if current is not None:
        ends |= {end for end in current.ends if end < traffic.max_length}
    return _without_empty_buckets(traffic, sorted(ends))


def _without_empty_buckets(traffic: Traffic, ends: Sequence[int]) -> tuple[int, ...]:
    """Join buckets in which nothing arrives and nothing decodes with a neighbour."""
    load = traffic.load_up_to(ends)
    work = load.arrivals / load.arrivals[-1] + load.decoded[0] / max(load.decoded[0][-1], 1e-30)
    kept: list[int] = []
    done = 0.0
    for end, upto in zip(ends, work.tolist(), strict=True):
        if upto - done > EQUAL:
            kept.append(end)
            done = upto
    return (*kept[:-1], traffic.max_length)


def _stage_counts(options: PlanOptions, lengths: int, instances: int) -> Sequence[int]:
    if options.boundaries is None:
        return range(1, min(options.max_stages, lengths, instances) + 1)
    return sorted({1, min(lengths, instances)})


def _alternative(solution: Solution, lengths: Sequence[int]) -> Alternative:
    ends = tuple(lengths[cut - 1] for cut in solution.cuts)
    return Alternative(Partition(ends, solution.instances), solution.cost)


def _with_present(
    ranked: Sequence[Alternative], current: Partition, pricing: Pricing
) -> tuple[Alternative, ...]:
    """The alternatives, with the present partition where the search missed it."""
    if current.max_length != pricing.traffic.max_length:
        return tuple(ranked)
    present = Alternative(current, pricing.cost(current))
    return tuple(
        present
        if len(one.partition.ends) == len(current.ends) and present.cost < one.cost * (1 - EQUAL)
        else one
        for one in ranked
    )


def _fewest_stages_of_the_best(ranked: Sequence[Alternative]) -> Alternative:
    least = min(one.cost for one in ranked)
    return next(one for one in ranked if one.cost <= least * (1 + EQUAL))


def _describe(
    chosen: Alternative, ranked: tuple[Alternative, ...], pricing: Pricing, options: PlanOptions
) -> Plan:
    """The chosen partition with its forecasts and its reasons."""
    others = [one for one in ranked if one is not chosen]
    runner_up = min(others, key=lambda one: one.cost, default=None)
    one_stage = ranked[0]
    work, state = pricing.forecast(chosen.partition)
    return Plan(
        stages=_stages(chosen.partition, stage_forecasts(work, state)),
        cost=chosen.cost,
        one_stage_cost=one_stage.cost,
        best_by_stage_count=ranked,
        runner_up=runner_up,
        gain_percent=100 * (1 - chosen.cost / one_stage.cost),
        binding=_binding(chosen.partition, state, pricing.objective, options),
        forecast=mean_forecast(work, state),
        one_stage_forecast=mean_forecast(*pricing.forecast(one_stage.partition)),
    )


def _stages(partition: Partition, forecasts: Sequence[Forecast | None]) -> tuple[PlannedStage, ...]:
    starts = (0, *(end + 1 for end in partition.ends[:-1]))
    return tuple(
        PlannedStage(start, end, count, forecast)
        for start, end, count, forecast in zip(
            starts, partition.ends, partition.instances, forecasts, strict=True
        )
    )


def _binding(
    partition: Partition, state: StageState, objective: Objective, options: PlanOptions
) -> tuple[Binding, ...]:
    stages = len(partition.ends)
    fixed = options.boundaries is not None
    checks = (
        (Binding.STABILITY, float(state.load.max()) * objective.safety > MAX_LOAD),
        (Binding.KV_CAPACITY, float(state.kv_use.max()) > MAX_KV_USE),
        (Binding.MAX_SEQUENCES, float(state.sequence_use.max()) > 1),
        (Binding.TIME_TO_FIRST_TOKEN, float(state.ttft.max()) > objective.ttft_target_ms),
        (Binding.TIME_PER_OUTPUT_TOKEN, float(state.tpot.max()) > objective.tpot_target_ms),
        (Binding.MAX_STAGES, not fixed and 1 < stages == options.max_stages < partition.total),
        (Binding.INSTANCES, stages == partition.total),
        (Binding.FIXED_BOUNDARIES, fixed),
    )
    return tuple(binding for binding, binds in checks if binds)
