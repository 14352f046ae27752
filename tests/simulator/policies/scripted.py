"""A fleet that is as the test says."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cascade_planner.traffic import Traffic
from cascade_policy.engine_model import EngineModel
from cascade_policy.load import IDLE, InstanceLoad
from cascade_policy.profiles import PROFILES
from cascade_simulator.policies.setup import Setup
from cascade_simulator.workload import Request

ENGINE = PROFILES["h100-8b"]
MAX_LENGTH = 16_384


def even(sequences: int, length: int, waiting: float = 0.0, share: float = 0.0) -> InstanceLoad:
    """The load of `sequences` of one length, with `waiting` ms of prefill and sigma `share`."""
    return InstanceLoad(sequences, sequences * length, sequences * length**2, waiting, share)


@dataclass
class Scripted:
    """A request in the cluster (`policy.Resident`)."""

    request: Request
    id: int = 0
    generated: int = 0
    instance: int = -1
    moving: bool = False

    @property
    def length(self) -> int:
        return self.request.prompt + self.generated


def arriving(prompt: int, output: int = 200, session: int | None = None) -> Scripted:
    return Scripted(Request(0.0, prompt, output, session=session))


def running(id: int, prompt: int, generated: int, instance: int, output: int = 4000) -> Scripted:
    return Scripted(Request(0.0, prompt, output), id, generated, instance)


@dataclass
class One:
    """An instance (`policy.Instance`)."""

    index: int
    load: InstanceLoad = IDLE
    alive: bool = True
    waiting_sequences: int = 0
    waiting_tokens: int = 0
    cached: int = 0

    def cached_tokens(self, request: Request) -> int:
        return min(self.cached, request.prompt)


@dataclass
class ScriptedFleet:
    """Instances with the given loads (`policy.Fleet`); chance always takes the first."""

    instances: Sequence[One]
    now_ms: float = 0.0
    model: EngineModel = ENGINE
    decoding: dict[int, list[Scripted]] = field(default_factory=dict)
    queued: dict[int, list[Scripted]] = field(default_factory=dict)
    draw: float = 0.0

    def random(self) -> float:
        return self.draw

    def running(self, instance: int) -> Sequence[Scripted]:
        return [one for one in self.decoding.get(instance, []) if not one.moving]

    def waiting(self, instance: int) -> Sequence[Scripted]:
        return self.queued.get(instance, [])


def fleet(*loads: InstanceLoad) -> ScriptedFleet:
    return ScriptedFleet([One(index, load) for index, load in enumerate(loads)])


def traffic(
    prompts: Sequence[int], outputs: Sequence[int], per_second: float, max_length: int = MAX_LENGTH
) -> Traffic:
    """Requests with these lengths, each as often as the others."""
    copies = 1 + 200 // len(prompts)
    starts = [prompt for prompt in prompts for _ in range(copies)]
    ends = [p + o for p, o in zip(prompts, outputs, strict=True) for _ in range(copies)]
    known = Traffic.from_lengths(starts, ends, len(starts) / per_second, max_length)
    assert isinstance(known, Traffic), known
    return known


def setup(instances: int, known: Traffic | None = None) -> Setup:
    return Setup(engine=ENGINE, instances=instances, max_length=MAX_LENGTH, traffic=known)
