"""What it costs to hand a running sequence over."""

from typing import Final

from cascade_policy.engine_model import EngineModel
from cascade_policy.load import InstanceLoad
from cascade_policy.price import decode_ms, step_ms, wait_ms
from cascade_policy.stage_map import COPY, WARM, Handoff

FIXED_MOVE_MS: Final = 5.0
"""Cost of a move beside prefill and bytes: requests, bookkeeping, the wait for a clean point."""
CAUTION: Final = 2.0
"""Factor on work that only a move makes: what it saves fades as loads even out by themselves."""


def move_ms(
    load: InstanceLoad, model: EngineModel, length: int, handoff: Handoff, cached: int = 0
) -> float:
    """Cost, in ms, of moving a sequence of `length` tokens onto `load`.

    A copy takes the time of its bytes, during which the sequence goes on. Otherwise the target
    computes what it does not hold (`cached` tokens are held): w' ms of work that would not be
    there without the move. It delays the B sequences of its batch, and by more than w', because
    all later work is late as well: with T the step time of a busy instance and C0 that of an idle
    one, by 2 * B * w' * (T/C0)^2. Without that factor hand-overs by recomputing made the mean
    end-to-end time of long prompts (Mooncake, load 0.85) 60 % worse than none at all; with it they
    are within 2 %. With a plain recompute the sequence itself waits, too: phi * [W*(1 + W/s) + w'].
    """
    if handoff.transport == COPY:
        return length * model.kv_bytes_per_token / handoff.copy_bytes_per_ms + FIXED_MOVE_MS
    work = model.prefill_ms(length, min(cached, length))
    busy = step_ms(load, model) / model.base_ms
    others = CAUTION * load.sequences * work * busy * busy
    if handoff.transport == WARM:
        return others + FIXED_MOVE_MS
    own = model.stretch(decode_ms(load, model)) * (wait_ms(load, model, work) + work)
    return others + own + FIXED_MOVE_MS
