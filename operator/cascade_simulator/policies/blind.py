"""Placements that know nothing of lengths or costs."""

from cascade_simulator.policies.staging import Staging
from cascade_simulator.policy import Fleet, Resident


class RoundRobin:
    """One after the other."""

    def __init__(self) -> None:
        self._next = 0

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:  # noqa: ARG002
        """The next instance that is alive."""
        count = len(fleet.instances)
        for offset in range(count):
            index = (self._next + offset) % count
            if fleet.instances[index].alive:
                self._next = index + 1
                return index
        return None


class Random:
    """Any instance."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:  # noqa: ARG002
        """One that is alive, all with equal chance."""
        alive = self._staging.alive(fleet)
        return alive[int(fleet.random() * len(alive))].index if alive else None


class LeastRequests:
    """The fewest sequences, queued ones included."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:  # noqa: ARG002
        """The instance with the least B."""
        alive = (member.index for member in self._staging.alive(fleet))
        return min(alive, key=lambda i: fleet.instances[i].load.sequences, default=None)


class LeastTokens:
    """The fewest tokens in the KV cache, those of queued prompts included."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:  # noqa: ARG002
        """The instance with the least S."""
        alive = (member.index for member in self._staging.alive(fleet))
        return min(alive, key=lambda i: fleet.instances[i].load.kv_tokens, default=None)
