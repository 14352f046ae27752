"""Hard stages that overflow to a neighbour by predicted cost, and stay where moving is a loss."""

from typing import Final

from cascade_policy.load import InstanceLoad
from cascade_policy.move import move_ms
from cascade_policy.price import decode_ms, running_price
from cascade_simulator.policies.assembled import Reviewer
from cascade_simulator.policies.least_work import LeastWork
from cascade_simulator.policies.staging import Member, Staging
from cascade_simulator.policy import Fleet, Move, Resident

HANDICAP_SHARE: Final = 1.25
HANDICAP_MS: Final = 200.0
"""What a neighbour must be better by: a quarter and 200 ms."""


class Overflow:
    """The cheapest of the own stage and of the neighbouring ones with their handicap.

    The cost is what the sequence itself is predicted to wait and to decode, phi*W + n*(D + B*d),
    not what it does to others: that is the price's idea.
    """

    def __init__(self, staging: Staging, least_work: LeastWork) -> None:
        self._staging = staging
        self._least_work = least_work

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:
        """The instance with the least cost; anywhere when stage and neighbours are all dead."""
        stage_map = self._staging.map
        stage = stage_map.stage_of(sequence.length)
        alive = self._staging.alive(fleet)
        near = [member for member in alive if abs(member.stage - stage) <= 1]
        if not near:
            return self._least_work.among(alive, sequence, fleet)
        remaining = stage_map.remaining_at(sequence.length)

        def cost(member: Member) -> float:
            load = fleet.instances[member.index].load
            own = self._cost_ms(load, sequence.length, remaining)
            return own if member.stage == stage else HANDICAP_SHARE * own + HANDICAP_MS

        return min(near, key=cost).index

    def _cost_ms(self, load: InstanceLoad, length: int, remaining: float) -> float:
        engine = self._staging.map.engine
        decode = decode_ms(load, engine)
        wait = load.waiting_prefill_ms * engine.stretch(decode)
        return wait + remaining * (decode + load.sequences * engine.sequence_ms(length))


class StaysWhenSlower:
    """The hand-over of hard stages, but a sequence stays when its receiver is predicted slower."""

    def __init__(self, staging: Staging, crossing: Reviewer) -> None:
        self._staging = staging
        self._crossing = crossing

    @property
    def slice_tokens(self) -> int:
        """Decoded tokens between two reviews."""
        return self._crossing.slice_tokens

    def review(self, sequence: Resident, fleet: Fleet) -> Move | None:
        """The move of the crossing when price there and move are below the price here."""
        move = self._crossing.review(sequence, fleet)
        if move is None:
            return None
        stage_map, length = self._staging.map, sequence.length
        remaining = stage_map.remaining_at(length)

        def running(load: InstanceLoad) -> float:
            return running_price(
                load, stage_map.engine, length, remaining, stage_map.tpot_target_ms
            )

        there = fleet.instances[move.target].load
        here = fleet.instances[sequence.instance].load.minus(length)
        moved = running(there) + move_ms(there, stage_map.engine, length, stage_map.handoff)
        return move if moved < running(here) else None
