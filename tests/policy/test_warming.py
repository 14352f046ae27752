"""When the target of a hand-over computes the sequence first."""

import pytest

from cascade_policy.offer import Offer
from cascade_policy.stage_map import RECOMPUTE, WARM, Handoff
from cascade_policy.warming import WarmReason, warm_again, warmth

WARMLY = Handoff(transport=WARM)


@pytest.mark.parametrize(
    ("handoff", "offer", "length", "remaining", "reason"),
    [
        pytest.param(WARMLY, Offer(), 4000, 200, WarmReason.WORTH_IT, id="long, much to come"),
        pytest.param(
            Handoff(transport=RECOMPUTE), Offer(), 4000, 200, WarmReason.TRANSPORT,
            id="the service recomputes",
        ),
        pytest.param(
            WARMLY, Offer(caching=False), 4000, 200, WarmReason.NO_CACHE, id="no prefix cache"
        ),
        pytest.param(WARMLY, Offer(use=0.9), 4000, 200, WarmReason.FULL, id="a full cache"),
        pytest.param(WARMLY, Offer(), 4000, 20, WarmReason.NEARLY_DONE, id="nearly done"),
        pytest.param(WARMLY, Offer(), 200, 200, WarmReason.SHORT, id="a short sequence"),
        pytest.param(
            WARMLY, Offer(cached=3900), 4000, 200, WarmReason.SHORT, id="the target knows most"
        ),
    ],
)  # fmt: skip
def test_who_is_warmed(
    handoff: Handoff, offer: Offer, length: int, remaining: float, reason: WarmReason
) -> None:
    verdict = warmth(handoff, offer, length, remaining)
    assert (verdict.warm, verdict.reason) == (reason is WarmReason.WORTH_IT, reason)


def test_a_target_that_fell_far_behind_is_warmed_once_more_and_no_third_time() -> None:
    assert not warm_again(100, 1)
    assert warm_again(1000, 1)
    assert not warm_again(1000, 2)
