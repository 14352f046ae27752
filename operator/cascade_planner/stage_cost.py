"""The closed-form cost of a stage: a range of lengths served by m instances.

A stage is a batch-serving queue in equilibrium. Decoding takes the share rho_d = R (C1 + C2 H l)/m
of an instance's time and prefill the share sigma = X/m, so that a step, which must absorb both,
lasts T = C0/(1 - rho_d - sigma); by Little's law B = R T/m sequences run in it. Prefill queues as
M/G/m (Sakasegawa), stretched by the decodes that ride in its chunks. Everything is elementwise
over arrays, so one call prices all stages and instance counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cascade_planner.arrays import Array, Index
from cascade_planner.objective import Crossing, Objective
from cascade_planner.traffic import Traffic
from cascade_policy.engine_model import MAX_HETEROGENEITY, EngineModel

MAX_LOAD: Final = 0.97
"""Share of an instance's time from which a queue counts as unstable: it grows without end at 1,
and its length there is beyond any closed form."""
MAX_KV_USE: Final = 0.9
"""Share of the KV cache that may be full on average, before sequences are preempted."""
MAX_UTILISATION: Final = 0.98
"""Where queue formulas stop growing; from there on the penalties do."""
BACKLOG_MS: Final = 300_000.0
"""Mean wait of the work that does not fit: it piles up for as long as the traffic lasts, taken
as the ten minutes over which it is usually observed. Steep enough that no plan sacrifices a stage
to speed up the others."""

_NOTHING: Final = 1e-30


@dataclass(frozen=True, eq=False, slots=True)
class Cuts:
    """Traffic summed up to each length where a stage may end; rates per ms.

    `lengths[0]` is 0, the last is the maximum. A stage's rate is a difference of two entries.
    """

    lengths: Array
    arrivals: Array
    prefill: Array
    """X: ms of prefill work w(prompt)."""
    prefill_squared: Array
    decode: Array
    """R: tokens."""
    kv: Array
    """Sum over decoded tokens of sequence length."""
    kv_squared: Array
    crossings: Array
    """Sequences that grow past the length; a value at each length, no sum."""

    @classmethod
    def of(cls, traffic: Traffic, lengths: Sequence[int], engine: EngineModel) -> "Cuts":
        """Sums up to 0 and to each of `lengths` (ascending, tokens)."""
        ends = (0, *lengths)
        total = traffic.load_up_to(ends)
        linear, quadratic = engine.prefill_ms_per_token, engine.prefill_ms_per_token_squared / 2
        one, two = total.prefill
        square, cube, fourth = total.prefill_squared
        squared = linear**2 * square + 2 * linear * quadratic * cube + quadratic**2 * fourth
        crossings = traffic.crossings_at(ends)
        crossings[0] = 0.0
        per_ms = 1e-3
        return cls(
            lengths=np.asarray(ends, dtype=np.float64),
            arrivals=total.arrivals * per_ms,
            prefill=(linear * one + quadratic * two) * per_ms,
            prefill_squared=squared * per_ms,
            decode=total.decoded[0] * per_ms,
            kv=total.decoded[1] * per_ms,
            kv_squared=total.decoded[2] * per_ms,
            crossings=crossings * per_ms,
        )


@dataclass(frozen=True, eq=False, slots=True)
class StageWork:
    """What stages have to do, per ms; arrays of one shape, an element for each stage.

    `prefill` and `prefill_squared` contain what recomputed crossings bring in;
    `arrival_prefill` does not.
    """

    arrivals: Array
    arrival_prefill: Array
    prefill: Array
    prefill_squared: Array
    decode: Array
    kv: Array
    kv_squared: Array
    crossings: Array
    """Sequences that cross in from the stage before."""
    crossing_prefill: Array
    """ms of prefill that each of them brings along."""
    crossing_copy: Array
    """ms of delay that each of them has beside that."""

    @classmethod
    def between(
        cls,
        cuts: Cuts,
        first: Index,
        last: Index,
        engine: EngineModel,
        crossing: Crossing,
    ) -> "StageWork":
        """Work of the stages (lengths[first], lengths[last]]."""

        def share(sums: Array) -> Array:
            # Differences of sums: a stage without traffic must get 0, never -1e-18.
            return np.maximum(sums[last] - sums[first], 0.0)

        start = cuts.lengths[first]
        crossings = cuts.crossings[first]
        recomputed = engine.prefill_ms_per_token * start + (
            engine.prefill_ms_per_token_squared * start * start / 2
        )
        if not crossing.recomputes:
            recomputed = np.zeros_like(start)
        prefill = share(cuts.prefill)
        return cls(
            arrivals=share(cuts.arrivals),
            arrival_prefill=prefill,
            prefill=prefill + crossings * recomputed,
            prefill_squared=share(cuts.prefill_squared) + crossings * recomputed * recomputed,
            decode=share(cuts.decode),
            kv=share(cuts.kv),
            kv_squared=share(cuts.kv_squared),
            crossings=crossings,
            crossing_prefill=recomputed,
            crossing_copy=crossing.copy_ms(start, engine),
        )

    def times(self, factor: float) -> "StageWork":
        """The same stages at `factor` times the rates."""
        return StageWork(
            arrivals=self.arrivals * factor,
            arrival_prefill=self.arrival_prefill * factor,
            prefill=self.prefill * factor,
            prefill_squared=self.prefill_squared * factor,
            decode=self.decode * factor,
            kv=self.kv * factor,
            kv_squared=self.kv_squared * factor,
            crossings=self.crossings * factor,
            crossing_prefill=self.crossing_prefill,
            crossing_copy=self.crossing_copy,
        )


@dataclass(frozen=True, eq=False, slots=True)
class Occupancy:
    """How full stages are in equilibrium; arrays of the common shape of work and instances."""

    load: Array
    """Share of the time that the work takes, chunks included; stable below 1."""
    tpot: Array
    """T: time of a step in ms, hence between two tokens of a sequence."""
    decode_step: Array
    """D: what the decodes of a step take, ms."""
    batch: Array
    """B: sequences that decode in one instance."""
    kv_use: Array
    """Share of the KV cache that they fill."""
    sequence_use: Array
    """Share of the engine's limit on sequences that they fill."""


@dataclass(frozen=True, eq=False, slots=True)
class StageState(Occupancy):
    """Stages in equilibrium: how full they are, and the delays that follow, in ms."""

    ttft: Array
    """Queueing, prefill and half a step."""
    crossing: Array
    """Delay of a sequence that crosses in."""


def occupy(work: StageWork, instances: Array, engine: EngineModel) -> Occupancy:
    """How full each stage is with `instances` (broadcast against the work).

    Finite everywhere: beyond stability the formulas stop at MAX_UTILISATION. No time and no use
    ever grows with instances.
    """
    m = instances
    chunk_ms = _chunk_ms(engine)
    length = work.kv / np.maximum(work.decode, _NOTHING)
    kv_ms = engine.per_kv_token_ms * _penalty(work, length, engine)
    decode_share = work.decode * (engine.per_sequence_ms + kv_ms * length) / m
    prefill_share = work.prefill / m
    busy = np.minimum(decode_share + prefill_share, MAX_UTILISATION)
    full_chunks = (engine.base_ms + chunk_ms) / (1 - np.minimum(decode_share, MAX_UTILISATION))
    step = np.minimum(engine.base_ms / (1 - busy), full_chunks)
    batch = work.decode * step / m
    most_kv_ms = kv_ms * engine.kv_capacity_tokens
    return Occupancy(
        load=decode_share + prefill_share * (1 + engine.base_ms / chunk_ms),
        tpot=step,
        decode_step=engine.base_ms
        + np.minimum(
            (engine.per_sequence_ms + kv_ms * length) * batch,
            engine.per_sequence_ms * engine.max_sequences + most_kv_ms,
        ),
        batch=batch,
        kv_use=batch * (length / engine.kv_capacity_tokens),
        sequence_use=batch / engine.max_sequences,
    )


def settle(work: StageWork, instances: Array, engine: EngineModel) -> StageState:
    """The equilibrium of each stage with `instances`: finite, and never worse with more."""
    full = occupy(work, instances, engine)
    stretch = 1 + full.decode_step / _chunk_ms(engine)
    own = work.arrival_prefill / np.maximum(work.arrivals, _NOTHING) * stretch
    wait = _wait(work, instances, stretch)
    queues = work.crossing_prefill > 0
    return StageState(
        load=full.load,
        tpot=full.tpot,
        decode_step=full.decode_step,
        batch=full.batch,
        kv_use=full.kv_use,
        sequence_use=full.sequence_use,
        ttft=wait + own + full.decode_step / 2,
        crossing=queues * wait + work.crossing_prefill * stretch + work.crossing_copy,
    )


def delay_cost(work: StageWork, state: StageState, objective: Objective) -> Array:
    """J of each stage, request-ms per ms, without the price of what does not fit."""
    late_first = np.maximum(state.ttft - objective.ttft_target_ms, 0.0)
    late_token = np.maximum(state.tpot - objective.tpot_target_ms, 0.0)
    first = work.arrivals * (state.ttft + objective.slo_weight * late_first)
    tokens = work.decode * (state.tpot + objective.slo_weight * late_token)
    priced: Array = objective.alpha * first + objective.beta * (
        tokens + work.crossings * state.crossing
    )
    return priced


def missing_instances(state: Occupancy, instances: Array) -> Array:
    """Instances' worth of work that does not fit into each stage; 0 where all does.

    Convex, so that what fits nowhere is spread rather than heaped on one stage.
    """
    over = (
        np.maximum(state.load - MAX_LOAD, 0.0)
        + np.maximum(state.kv_use / MAX_KV_USE - 1, 0.0)
        + np.maximum(state.sequence_use - 1, 0.0)
    )
    missing: Array = instances * over * (1 + over)
    return missing


def _chunk_ms(engine: EngineModel) -> float:
    """Time of the prefill that fills a step."""
    return engine.chunk_tokens * engine.prefill_ms_per_token


def _penalty(work: StageWork, length: Array, engine: EngineModel) -> Array:
    """H of each stage: what uneven lengths in a batch cost attention."""
    mean_square = work.kv_squared / np.maximum(work.decode, _NOTHING)
    spread = np.sqrt(np.maximum(mean_square - length * length, 0.0))
    cv = spread / np.maximum(length, 1.0)
    return np.minimum(MAX_HETEROGENEITY, 1 + engine.heterogeneity * cv)


def _wait(work: StageWork, m: Array, stretch: Array) -> Array:
    """Mean wait for prefill, M/G/m after Sakasegawa (1977): it rewards pooling.

    (1 + scv)/2 * u^(sqrt(2(m+1))-1) / (m (1-u)) * E[w], where (1 + scv)/2 * E[w] = E[w^2]/(2 E[w])
    is what is left of a job when another arrives.
    """
    left = work.prefill_squared / np.maximum(2 * work.prefill, _NOTHING)
    use = np.minimum(work.prefill * stretch / m, MAX_UTILISATION)
    wait: Array = left * stretch * use ** (np.sqrt(2 * (m + 1)) - 1) / (m * (1 - use))
    return wait
