"""What instances ask for, and how copies change it."""

from dataclasses import replace

import pytest

from cascade_policy.bids import AVOIDABLE_WEIGHT, bids
from cascade_policy.candidates import Candidate
from cascade_policy.load import InstanceLoad
from cascade_policy.move import move_ms
from cascade_policy.price import price, running_price
from cascade_policy.profiles import PROFILES
from cascade_policy.stage_map import COPY, RECOMPUTE, WARM, Handoff, Stage, StageMap

ENGINE = PROFILES["h100-8b"]
MAP = StageMap(
    plan_id="p",
    time="t",
    model="m",
    max_length=131_072,
    engine=ENGINE,
    stages=(Stage(0, 0, 131_072, "s"),),
)


def an_instance(name: str, sequences: int, share: float = 0.0, cached: int = 0) -> Candidate:
    load = InstanceLoad(sequences, sequences * 1000, sequences * 1_000_000, 0.0, share)
    return Candidate(name, 0, load, cached)


PREFILLS = an_instance("prefills", 2, share=0.8)
DECODES = an_instance("decodes", 30, share=0.05)


@pytest.mark.parametrize("transport", [RECOMPUTE, WARM])
def test_where_tokens_are_computed_again_a_bid_is_the_price(transport: str) -> None:
    stage_map = replace(MAP, handoff=Handoff(transport=transport))
    offers = bids([PREFILLS, DECODES], 1000, 200, stage_map)
    assert [(one.instance, one.load) for one in offers] == [
        ("prefills", PREFILLS.load),
        ("decodes", DECODES.load),
    ]
    assert [one.price for one in offers] == [
        price(PREFILLS.load, ENGINE, 1000, 200, 100.0),
        price(DECODES.load, ENGINE, 1000, 200, 100.0),
    ]


def test_work_that_another_cache_would_save_is_dearer_than_other_work() -> None:
    knows, forgot = an_instance("a", 4, cached=900), an_instance("b", 4, cached=300)
    first, second = bids([knows, forgot], 1000, 200, MAP)
    assert first.price == price(knows.load, ENGINE, 1000, 200, 100.0, cached=900)
    avoidable = ENGINE.prefill_ms(900, 300)
    assert second.price == pytest.approx(
        price(forgot.load, ENGINE, 1000, 200, 100.0, cached=300) + AVOIDABLE_WEIGHT * avoidable
    )


def test_where_caches_are_copied_the_cheapest_place_to_decode_counts_for_all() -> None:
    handoff = Handoff(transport=COPY)
    offers = bids([PREFILLS, DECODES], 4000, 200, replace(MAP, handoff=handoff))
    there = running_price(DECODES.load, ENGINE, 4000, 200, 100.0)
    there += move_ms(DECODES.load, ENGINE, 4000, handoff)
    assert offers[0].price == price(PREFILLS.load, ENGINE, 4000, 200, 100.0, elsewhere=there)
    assert offers[0].price < price(PREFILLS.load, ENGINE, 4000, 200, 100.0)
    assert offers[0].price < offers[1].price == price(DECODES.load, ENGINE, 4000, 200, 100.0)


def test_where_nothing_is_handed_over_nobody_counts_on_a_copy() -> None:
    handoff = Handoff(enabled=False, transport=COPY)
    offers = bids([PREFILLS, DECODES], 4000, 200, replace(MAP, handoff=handoff))
    assert offers[0].price == price(PREFILLS.load, ENGINE, 4000, 200, 100.0)
