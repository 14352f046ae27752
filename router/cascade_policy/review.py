"""Stay or hand over: whether a running sequence should leave its instance, where to, and why.

The reviewer looks at kept state only; a proposed move is confirmed by a fresh bid of its target.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cascade_policy.candidates import Candidate
from cascade_policy.move import move_ms
from cascade_policy.price import handicap, has_room, running_price, step_ms
from cascade_policy.stage_map import Boundaries, StageMap

MIN_REMAINING: Final = 16.0
"""Output tokens below which no move pays, whatever the prices say."""
MARGIN: Final = 0.05
"""Part of the time per token here that a move must save, so that sequences do not swing. At 0.15
half of what copies bring is lost; at 0 there are half as many moves again for nothing."""


class ReviewReason(StrEnum):
    """Why a sequence stays or moves."""

    OUTGROWN = "outgrown"
    """It moves: longer than its stage serves."""
    CHEAPER = "cheaper"
    """It moves: the saving pays for the move."""
    DISABLED = "disabled"
    NEARLY_DONE = "nearly-done"
    IN_RANGE = "in-range"
    NO_TARGET = "no-target"
    """No instance of the wanted stage is known."""
    NO_ROOM = "no-room"
    """Instances are known, but none has room for it."""
    NOT_WORTH_IT = "not-worth-it"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to hand over (`move`), to whom, and why."""

    move: bool
    target: str | None
    reason: ReviewReason
    message: str


def review(
    length: int,
    remaining: float,
    here: Candidate,
    candidates: Sequence[Candidate],
    stage_map: StageMap,
) -> Verdict:
    """Decide about one sequence: `length` tokens long, `remaining` more expected.

    `here.load` includes the sequence; `here` may be among the candidates and is passed over.
    """
    if not stage_map.handoff.enabled:
        return _stay(ReviewReason.DISABLED, "hand-over is switched off")
    if remaining < MIN_REMAINING:
        return _stay(
            ReviewReason.NEARLY_DONE, f"only about {remaining:.0f} tokens remain to be made"
        )
    others = [candidate for candidate in candidates if candidate.instance != here.instance]
    if stage_map.boundaries is Boundaries.HARD:
        return _review_hard(length, remaining, here, others, stage_map)
    return _review_soft(length, remaining, here, others, stage_map)


def _review_hard(
    length: int,
    remaining: float,
    here: Candidate,
    others: Sequence[Candidate],
    stage_map: StageMap,
) -> Verdict:
    """The paper's rule: what outgrows its stage goes to the stage that covers it."""
    stage = stage_map.stage_of(length)
    if stage <= here.stage:
        return _stay(ReviewReason.IN_RANGE, f"stage {here.stage} covers {length} tokens")
    targets = [candidate for candidate in others if candidate.stage == stage]
    if not targets:
        return _stay(ReviewReason.NO_TARGET, f"no instance of stage {stage} is known")
    cost, best = _cheapest(length, remaining, targets, stage_map, bias=0.0)
    if not math.isfinite(cost):
        return _stay(ReviewReason.NO_ROOM, f"no instance of stage {stage} has room")
    return Verdict(
        True,
        best.instance,
        ReviewReason.OUTGROWN,
        f"{length} tokens outgrew stage {here.stage}; {best.instance} of stage {stage} is cheapest",
    )


def _review_soft(
    length: int,
    remaining: float,
    here: Candidate,
    others: Sequence[Candidate],
    stage_map: StageMap,
) -> Verdict:
    """Move when the price there and the move together are below the price here by a margin."""
    if not others:
        return _stay(ReviewReason.NO_TARGET, "no other instance is known")
    model, stage = stage_map.engine, stage_map.stage_of(length)
    stay = running_price(
        here.load.minus(length), model, length, remaining, stage_map.tpot_target_ms
    ) * handicap(here.stage, stage, stage_map.bias)
    there, best = _cheapest(length, remaining, others, stage_map, stage_map.bias, stay)
    if not math.isfinite(there):
        return _stay(ReviewReason.NO_ROOM, "no other instance has room")
    margin = MARGIN * step_ms(here.load, model) * remaining
    figures = f"staying costs {stay:.0f} ms, {best.instance} {there:.0f} ms with the move"
    if stay - there <= margin:
        return _stay(
            ReviewReason.NOT_WORTH_IT, f"{figures}: a move must save at least {margin:.0f} ms"
        )
    if here.stage < stage <= best.stage:
        return Verdict(
            True,
            best.instance,
            ReviewReason.OUTGROWN,
            f"{length} tokens outgrew stage {here.stage}: {figures}",
        )
    return Verdict(True, best.instance, ReviewReason.CHEAPER, figures)


def _cheapest(
    length: int,
    remaining: float,
    candidates: Sequence[Candidate],
    stage_map: StageMap,
    bias: float,
    ceiling: float = math.inf,
) -> tuple[float, Candidate]:
    """The candidate with the least price, the move included, and that price in ms.

    A price above `ceiling` may be too low: the move is left out of it.
    """
    model, stage = stage_map.engine, stage_map.stage_of(length)
    target, handoff = stage_map.tpot_target_ms, stage_map.handoff

    def cost(candidate: Candidate) -> float:
        fits = candidate.fits
        if not (has_room(candidate.load, model, length) if fits is None else fits):
            return math.inf
        running = running_price(candidate.load, model, length, remaining, target)
        running *= handicap(candidate.stage, stage, bias)
        if running > ceiling:
            return running
        return running + move_ms(candidate.load, model, length, handoff, candidate.cached)

    costs = [(cost(candidate), candidate) for candidate in candidates]
    return min(costs, key=lambda pair: (pair[0], pair[1].instance))


def _stay(reason: ReviewReason, message: str) -> Verdict:
    return Verdict(False, None, reason, message)
