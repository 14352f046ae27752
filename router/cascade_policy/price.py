"""The price of a sequence on an instance, and who gets it.

One currency for dispatch and hand-over: the predicted extra delay, in ms summed over everyone
affected, of putting a sequence on an instance. The plan decides who is asked, the price decides
who gets it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cascade_policy.engine_model import EngineModel
from cascade_policy.load import IDLE, MAX_PREFILL_SHARE, InstanceLoad
from cascade_policy.stage_map import Boundaries, StageMap

WAIT_WEIGHT: Final = 28.0
"""Weight of prefill that waits before the sequence: the tail of TTFT against the mean of all. On
short prompts (Azure, load 0.85) p99 TTFT is 1.5 times that of least work at 8, 1.25 times at 16,
1.15 times at 28 and 1.1 times at 40; the mean end-to-end time rises by half a percent each time,
by 2 % where KV caches are copied."""
PREFILL_WEIGHT: Final = 8.0
"""Weight of the sequence's own prefill. Nearly the same everywhere unless a prefix is cached."""
OWN_SHARE: Final = 0.2
"""Waiting work is punished more than in proportion above one chunk and this part of the
sequence's own prefill: a long prompt takes long in any case. Without it the mean end-to-end time
of long prompts (Mooncake, load 0.85) is 2 % higher."""
TPOT_SHARE: Final = 0.9
"""Part of the TPOT target that a step may take before the barrier rises."""
KV_LIMIT: Final = 0.97
"""Part of the KV cache that may be booked; the rest is for blocks that are not full."""
TIE_SHARE: Final = 0.05
TIE_MS: Final = 10.0
RISE_SHARE: Final = 1.25
RISE_MS: Final = 50.0


@dataclass(frozen=True, slots=True)
class Bid:
    """The price one instance asks for a sequence, before any handicap for its stage."""

    instance: str
    stage: int
    price: float
    load: InstanceLoad = IDLE


class ChoiceReason(StrEnum):
    """Why an instance was chosen."""

    OWN_STAGE = "own-stage"
    OTHER_STAGE = "other-stage"
    """Cheaper than the stage of the length, even with the handicap."""
    EMPTY_STAGE = "empty-stage"
    """Nobody of the stage answered; hard boundaries only."""
    SATURATED = "saturated"
    """No instance has room; the engine with the fewest tokens queues it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The instance that gets the sequence, at the price it bid."""

    instance: str
    stage: int
    price: float
    reason: ChoiceReason


def has_room(load: InstanceLoad, model: EngineModel, length: int) -> bool:
    """Whether one more sequence of `length` tokens fits into the KV cache and the batch."""
    return (
        load.kv_tokens + length <= KV_LIMIT * model.kv_capacity_tokens
        and load.sequences < model.max_sequences
    )


def step_ms(load: InstanceLoad, model: EngineModel) -> float:
    """T: ms between two tokens of a sequence, prefill of others included."""
    return decode_ms(load, model) / (1 - min(load.prefill_share, MAX_PREFILL_SHARE))


def running_price(
    load: InstanceLoad, model: EngineModel, length: int, remaining: float, tpot_target_ms: float
) -> float:
    """Price of decoding `remaining` tokens beside `load`, the prompt already computed.

    n * (T' + B*d) + n * [(B+1) * (T'-tau)+ - B * (T-tau)+], in ms. d is the whole difference that
    the sequence makes to a step, by uneven lengths as well (H > 1): that keeps like lengths
    together (worth 2 to 6 % of the mean end-to-end time on Mooncake with a heterogeneity of 0.25
    to 0.5).
    """
    batch = load.sequences
    decode = decode_ms(load, model)
    added = _added_ms(load, model, length, decode)
    free = 1 - min(load.prefill_share, MAX_PREFILL_SHARE)
    after = (decode + added) / free
    limit = TPOT_SHARE * tpot_target_ms
    if after <= limit:
        return remaining * (after + batch * added)
    barrier = (batch + 1) * (after - limit) - batch * max(0.0, decode / free - limit)
    return remaining * (after + batch * added + barrier)


def price(
    load: InstanceLoad,
    model: EngineModel,
    length: int,
    remaining: float,
    tpot_target_ms: float,
    cached: int = 0,
    elsewhere: float = math.inf,
    fits: bool | None = None,
) -> float:
    """Price, in ms, of a new sequence of `length` tokens that will emit `remaining` more.

    n*(T' + B*d) + B*w' + phi*[28*W*(1 + W/s) + 8*w'] + the TPOT barrier, where w' is the prefill
    of what the instance does not hold (`cached` tokens are held), d the cost of the sequence to
    each step, phi the stretch of prefill by decodes, and s the scale of `wait_ms`. `elsewhere` is
    the price of decoding on another instance, the move there included: what the sequence will
    choose after its prompt when that is cheaper. Infinite when it does not fit: by `fits` where
    the instance knows its memory better than its load tells.
    """
    if not (has_room(load, model, length) if fits is None else fits):
        return math.inf
    work = model.prefill_ms(length, min(cached, length))
    stretch = model.stretch(decode_ms(load, model))
    first = stretch * (WAIT_WEIGHT * wait_ms(load, model, work) + PREFILL_WEIGHT * work)
    running = running_price(load, model, length, remaining, tpot_target_ms)
    return min(running, elsewhere) + load.sequences * work + first


def wait_ms(load: InstanceLoad, model: EngineModel, work: float) -> float:
    """W * (1 + W/s): waiting for the prefill that is queued, for a sequence with `work` ms of its
    own; s is one full chunk and a fifth of that work."""
    waiting = load.waiting_prefill_ms
    scale = model.chunk_tokens * model.prefill_ms_per_token + OWN_SHARE * work
    return waiting * (1 + waiting / scale)


def expected_remaining(stage_map: StageMap, length: int, limit: int | None) -> float:
    """Output tokens still expected at `length`, at most the client's `limit`."""
    expected = stage_map.remaining_at(length)
    return expected if limit is None else min(expected, float(max(0, limit)))


def has_risen(bid: float, now: float) -> bool:
    """Whether a price rose so far since it was bid that the front should ask again (once)."""
    return now > RISE_SHARE * bid + RISE_MS


def pick(
    bids: Sequence[Bid], stage: int, mode: Boundaries, bias: float, random: float
) -> Choice | None:
    """Who gets a sequence whose length belongs to `stage`; None when nobody bid.

    A foreign instance pays (1 + bias * stages away); with hard boundaries only the nearest stage
    that answered is considered. Among the bids of the cheapest one's stage that lie within 5 % +
    10 ms of it, `random` (0 <= random < 1) decides, so that many fronts with equal knowledge do
    not run to one instance; a foreign stage never wins by that chance.
    """
    if not bids:
        return None
    considered = nearest_stage(bids, stage) if mode is Boundaries.HARD else list(bids)
    affordable = [bid for bid in considered if math.isfinite(bid.price)]
    if not affordable:
        return _least_full(considered)

    def handicapped(bid: Bid) -> float:
        return bid.price * handicap(bid.stage, stage, bias)

    best = min(affordable, key=handicapped)
    limit = handicapped(best) * (1 + TIE_SHARE) + TIE_MS
    ties = [bid for bid in affordable if bid.stage == best.stage and handicapped(bid) <= limit]
    chosen = ties[min(int(random * len(ties)), len(ties) - 1)]
    return Choice(chosen.instance, chosen.stage, chosen.price, _reason(chosen, stage, mode))


def handicap(instance_stage: int, stage: int, bias: float) -> float:
    """What an instance's price is multiplied by: 1 + bias * stages away."""
    return 1 + bias * abs(instance_stage - stage)


def nearest_stage(bids: Sequence[Bid], stage: int) -> list[Bid]:
    """The bids of the stage nearest to `stage`; of two equally near ones, the longer lengths."""
    nearest = min((abs(bid.stage - stage), -bid.stage) for bid in bids)
    return [bid for bid in bids if (abs(bid.stage - stage), -bid.stage) == nearest]


def _reason(bid: Bid, stage: int, mode: Boundaries) -> ChoiceReason:
    if bid.stage == stage:
        return ChoiceReason.OWN_STAGE
    return ChoiceReason.EMPTY_STAGE if mode is Boundaries.HARD else ChoiceReason.OTHER_STAGE


def _least_full(bids: Sequence[Bid]) -> Choice:
    bid = min(bids, key=lambda bid: (bid.load.kv_tokens, bid.load.sequences, bid.instance))
    return Choice(bid.instance, bid.stage, bid.price, ChoiceReason.SATURATED)


def _added_ms(load: InstanceLoad, model: EngineModel, length: int, decode: float) -> float:
    """d: ms that one more sequence of `length` tokens adds to a step of `decode` ms."""
    if model.heterogeneity == 0:
        return model.sequence_ms(length)
    count, tokens = load.sequences + 1, load.kv_tokens + length
    penalty = model.penalty(count, tokens, load.kv_tokens_squared + length * length)
    return model.decode_ms(count, tokens, penalty) - decode


def decode_ms(load: InstanceLoad, model: EngineModel) -> float:
    """D: ms of one decode step of `load`, with the penalty of its uneven lengths."""
    penalty = model.penalty(load.sequences, load.kv_tokens, load.kv_tokens_squared)
    return model.decode_ms(load.sequences, load.kv_tokens, penalty)
