"""Writes down what happens in a run."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cascade_simulator.handover import Handovers
from cascade_simulator.instance import SimulatedInstance
from cascade_simulator.live_sequence import NOWHERE
from cascade_simulator.outcome import Counters, Outcome, Samples, StageChange
from cascade_simulator.policy import Policy
from cascade_simulator.workload import Workload


class Recording:
    """Rows of requests and samples of the load, as they come."""

    def __init__(self, workload: Workload, instances: int) -> None:
        count = len(workload.requests)
        self.rescues = 0
        self._workload = workload
        self._instances = instances
        self._first_ms = np.full(count, np.nan)
        self._end_ms = np.full(count, np.nan)
        self._handovers = np.zeros(count, dtype=np.int64)
        self._instance = np.full(count, NOWHERE, dtype=np.int64)
        self._rows: list[tuple[float, int, list[tuple[int, float, float, float]], list[int]]] = []
        self._changes: list[StageChange] = []

    def placed(self, sequence: int, instance: int) -> None:
        """The first instance of a request."""
        self._instance[sequence] = instance

    def first_token(self, sequence: int, now_ms: float) -> None:
        """Note the time of a token, if it is the first of its request."""
        if np.isnan(self._first_ms[sequence]):
            self._first_ms[sequence] = now_ms

    def ended(self, sequence: int, now_ms: float) -> None:
        """The last token of a request."""
        self._end_ms[sequence] = now_ms

    def stages(self, policy: Policy, now_ms: float) -> None:
        """Note the stages if they have changed."""
        ends, stage_of = policy.stages()
        counts = Counter(stage_of)
        in_order = tuple(counts[stage] for stage in range(len(ends)))
        latest = self._changes[-1] if self._changes else None
        if latest is None or (latest.ends, latest.counts) != (ends, in_order):
            self._changes.append(StageChange(now_ms, ends, in_order))

    def sample(
        self,
        now_ms: float,
        instances: Sequence[SimulatedInstance],
        policy: Policy,
        front_queue: int,
    ) -> None:
        """Note the load of all instances."""
        row = []
        for one in instances:
            load = one.load
            use = one.memory.tokens / one.model.kv_capacity_tokens
            row.append((load.sequences, use, load.prefill_share, load.waiting_prefill_ms))
        self._rows.append((now_ms, front_queue, row, list(policy.stages()[1])))

    def outcome(
        self, policy: str, instances: Sequence[SimulatedInstance], handovers: Handovers
    ) -> Outcome:
        """Everything that was written down."""
        requests = self._workload.requests
        np.add.at(self._handovers, np.asarray(handovers.made, dtype=np.int64), 1)
        return Outcome(
            policy=policy,
            workload=self._workload.name,
            instances=self._instances,
            arrival_ms=np.array([one.arrival_ms for one in requests], dtype=np.float64),
            prompt=np.array([one.prompt for one in requests], dtype=np.int64),
            output=np.array([one.output for one in requests], dtype=np.int64),
            first_token_ms=self._first_ms,
            end_ms=self._end_ms,
            handovers=self._handovers,
            instance=self._instance,
            counters=self._counters(instances, handovers),
            samples=self._samples(),
            stage_changes=tuple(self._changes),
            handover_gap_ms=np.array(handovers.gaps_ms, dtype=np.float64),
        )

    def _counters(self, instances: Sequence[SimulatedInstance], handovers: Handovers) -> Counters:
        tallies = [one.tally for one in instances]
        return Counters(
            handovers=len(handovers.made),
            refused_handovers=handovers.refused,
            recomputed=sum(one.recomputed for one in tallies),
            copied=handovers.copied_tokens,
            prefilled=sum(one.prefilled for one in tallies),
            prefix_hits=sum(one.prefix_hits for one in tallies),
            preemptions=sum(one.preemptions for one in tallies),
            rescues=self.rescues,
            steps=sum(one.steps for one in tallies),
        )

    def _samples(self) -> Samples:
        shape = (len(self._rows), self._instances)
        loads = np.array([row for _, _, row, _ in self._rows], dtype=np.float64)
        loads = loads.reshape(*shape, 4)
        return Samples(
            time_ms=np.array([row[0] for row in self._rows], dtype=np.float64),
            sequences=loads[:, :, 0].astype(np.int64),
            kv_use=loads[:, :, 1],
            prefill_share=loads[:, :, 2],
            waiting_prefill_ms=loads[:, :, 3],
            stage=np.array([row[3] for row in self._rows], dtype=np.int64).reshape(shape),
            front_queue=np.array([row[1] for row in self._rows], dtype=np.int64),
        )
