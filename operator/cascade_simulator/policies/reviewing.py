"""Hand-over of running sequences by the router's own review."""

from cascade_policy.candidates import Candidate
from cascade_policy.review import review
from cascade_policy.stage_map import COPY
from cascade_simulator.policies.priced import Remaining, expected
from cascade_simulator.policies.staging import Staging
from cascade_simulator.policy import Fleet, Move, Resident


class Reviewing:
    """Reviews each running sequence once a slice, by the function that a router calls.

    Where KV caches are copied also right after the prompt, for the prices at dispatch counted on
    the cheapest place to decode. With `prefix` the price of a move knows what caches hold.
    """

    def __init__(
        self, staging: Staging, *, prefix: bool = False, remaining: Remaining = expected
    ) -> None:
        self._staging = staging
        self._prefix = prefix
        self._remaining = remaining

    @property
    def slice_tokens(self) -> int:
        """Decoded tokens between two reviews."""
        return self._staging.map.handoff.slice_tokens

    def review(self, sequence: Resident, fleet: Fleet) -> Move | None:
        """The move that `review` proposes."""
        stage_map = self._staging.map
        if sequence.generated == 1 and stage_map.handoff.transport != COPY:
            return None
        here = self._staging.members[sequence.instance]
        verdict = review(
            sequence.length,
            self._remaining(sequence, stage_map),
            Candidate(here.name, here.stage, fleet.instances[here.index].load),
            self._staging.candidates(sequence, fleet, prefix=self._prefix),
            stage_map,
        )
        return None if verdict.target is None else Move(sequence.id, int(verdict.target))
