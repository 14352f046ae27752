"""The stages in force: the map that routers read, and which instance serves which stage."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cascade_planner.partition import Partition
from cascade_planner.traffic import Traffic
from cascade_policy.candidates import Candidate, whom_to_ask
from cascade_policy.stage_map import Boundaries, Stage, StageMap
from cascade_simulator.policies.setup import Setup
from cascade_simulator.policy import Fleet, Resident


@dataclass(frozen=True, slots=True)
class Member:
    """An instance under the name that routers know it by, and the stage that it serves."""

    index: int
    name: str
    stage: int


class Staging:
    """Stages and members; changed by a new plan, new boundaries or new knowledge of lengths."""

    def __init__(
        self, setup: Setup, partition: Partition, boundaries: Boundaries, *, handover: bool = True
    ) -> None:
        self.map = StageMap(
            plan_id=partition.id,
            time="",
            model="",
            max_length=setup.max_length,
            engine=setup.engine,
            stages=_stages(partition),
            boundaries=boundaries,
            bias=setup.bias,
            handoff=setup.handoff(enabled=handover),
            ttft_target_ms=setup.objective.ttft_target_ms,
            tpot_target_ms=setup.objective.tpot_target_ms,
        )
        self.partition = partition
        self.members: tuple[Member, ...] = ()
        self._serve(range(setup.instances))
        if setup.traffic is not None:
            self.learn(setup.traffic)

    def learn(self, traffic: Traffic) -> None:
        """Expect outputs as in `traffic`."""
        self.map = replace(self.map, expected_remaining=traffic.expected_remaining)

    def move_boundaries(self, partition: Partition) -> None:
        """Use the ends of `partition`; its counts are the present ones."""
        self.partition = partition
        self.map = replace(self.map, plan_id=partition.id, stages=_stages(partition))

    def apply(self, partition: Partition, fleet: Fleet) -> None:
        """Use `partition`. Instances change stage as they are, with what they run: those with the
        longest sequences serve the longest lengths."""

        def mean_length(index: int) -> tuple[int, float]:
            load = fleet.instances[index].load
            return self.members[index].stage, load.kv_tokens / max(1, load.sequences)

        self.move_boundaries(partition)
        self._serve(sorted(range(len(self.members)), key=mean_length))

    def alive(self, fleet: Fleet) -> list[Member]:
        """Members that take requests."""
        instances = fleet.instances
        return [member for member in self.members if instances[member.index].alive]

    def candidates(self, sequence: Resident, fleet: Fleet, *, prefix: bool) -> list[Candidate]:
        """Whom a router asks about `sequence`, where it runs left out; with what they hold of its
        prompt if `prefix` is known."""
        instances, here = fleet.instances, sequence.instance
        request = sequence.request
        known = [
            Candidate(
                member.name,
                member.stage,
                instances[member.index].load,
                instances[member.index].cached_tokens(request) if prefix else 0,
            )
            for member in self.alive(fleet)
            if member.index != here
        ]
        stage = self.map.stage_of(sequence.length)
        return whom_to_ask(known, stage, self.map.boundaries, _kv_tokens, fleet.random)

    def described(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(greatest length of each stage, stage of each instance)."""
        return self.partition.ends, tuple(member.stage for member in self.members)

    def _serve(self, order: Sequence[int]) -> None:
        """Hand out the stages to the instances in `order`, the shortest lengths first."""
        counts = self.partition.instances
        stages = [stage for stage, count in enumerate(counts) for _ in range(count)]
        members = (
            Member(index, str(index), stage) for index, stage in zip(order, stages, strict=True)
        )
        self.members = tuple(sorted(members, key=lambda member: member.index))


def one_stage(setup: Setup) -> Partition:
    """Every instance serves every length."""
    return Partition((setup.max_length,), (setup.instances,))


def _kv_tokens(candidate: Candidate) -> int:
    return candidate.load.kv_tokens


def _stages(partition: Partition) -> tuple[Stage, ...]:
    starts = (0, *(end + 1 for end in partition.ends[:-1]))
    return tuple(
        Stage(index, start, end, "")
        for index, (start, end) in enumerate(zip(starts, partition.ends, strict=True))
    )
