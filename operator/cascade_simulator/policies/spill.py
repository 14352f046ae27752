"""Dual-pool routing: two pools by token budget, spilling over when one is overloaded.

After "dual-pool token-budget routing" (arXiv 2604.08075): a request goes to the pool whose
context holds its prompt and output; there is no migration.
"""

from typing import Final

from cascade_simulator.policies.least_work import LeastWork
from cascade_simulator.policies.staging import Staging
from cascade_simulator.policy import Fleet, Resident

FULL: Final = 0.9
"""Share of the KV cache from which an instance is overloaded."""


class Spill:
    """Least work in the pool of the token budget, in the other one when only that has room.

    The budget is prompt and expected output. A trace does not tell what clients allowed, and one
    expectation for all makes it a cut between prompts. An instance is overloaded when its KV cache
    is nearly full or the prefill that waits there alone would miss the TTFT target.
    """

    def __init__(self, staging: Staging, least_work: LeastWork) -> None:
        self._staging = staging
        self._least_work = least_work

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:
        """The instance with the least work of the pool that is not overloaded."""
        pool = self._staging.map.stage_of(sequence.request.prompt)
        members = self._staging.alive(fleet)
        own = self._least_work.among((m for m in members if m.stage == pool), sequence, fleet)
        other = self._least_work.among((m for m in members if m.stage != pool), sequence, fleet)
        if own is None or other is None:
            return other if own is None else own
        spills = self._overloaded(own, sequence, fleet) and not self._overloaded(
            other, sequence, fleet
        )
        return other if spills else own

    def _overloaded(self, index: int, sequence: Resident, fleet: Fleet) -> bool:
        load, stage_map = fleet.instances[index].load, self._staging.map
        needed = load.kv_tokens + sequence.length
        return (
            needed > FULL * stage_map.engine.kv_capacity_tokens
            or load.waiting_prefill_ms > stage_map.ttft_target_ms
        )
