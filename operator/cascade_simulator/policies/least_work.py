"""Least work: the strongest dispatch that does not look at the length of what it places."""

from collections.abc import Iterable

from cascade_policy.engine_model import EngineModel
from cascade_policy.load import InstanceLoad
from cascade_simulator.policies.observations import Observations
from cascade_simulator.policies.staging import Member, Staging
from cascade_simulator.policy import Fleet, Resident


def work_ms(load: InstanceLoad, engine: EngineModel, mean_output: float) -> float:
    """W + n * (C1*B + C2*S): prefill that waits, and what the batch adds to n steps."""
    return load.waiting_prefill_ms + mean_output * (
        engine.per_sequence_ms * load.sequences + engine.per_kv_token_ms * load.kv_tokens
    )


class LeastWork:
    """Places where the least work is; with `prefix`, the prefill of the sequence itself counts."""

    def __init__(self, staging: Staging, observations: Observations, *, prefix: bool) -> None:
        self._staging = staging
        self._observations = observations
        self._prefix = prefix

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:
        """The instance with the least work."""
        return self.among(self._staging.alive(fleet), sequence, fleet)

    def among(self, members: Iterable[Member], sequence: Resident, fleet: Fleet) -> int | None:
        """The one of `members` with the least work."""
        indices = (member.index for member in members)
        return min(indices, key=lambda index: self.work_ms(index, sequence, fleet), default=None)

    def work_ms(self, index: int, sequence: Resident, fleet: Fleet) -> float:
        """Work of an instance, in ms."""
        instance, engine = fleet.instances[index], self._staging.map.engine
        work = work_ms(instance.load, engine, self._observations.mean_output)
        if not self._prefix:
            return work
        length = sequence.length
        cached = min(instance.cached_tokens(sequence.request), length)
        return work + engine.prefill_ms(length, cached)
