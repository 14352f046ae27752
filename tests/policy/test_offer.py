"""Offers: as they travel, and who fits by them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_policy.load import IDLE, InstanceLoad, InvalidLoad
from cascade_policy.offer import Offer, has_memory

RUNNING = InstanceLoad(3, 3000, 3_000_000, 0.0, 0.0)

offers = st.builds(
    Offer,
    load=st.just(RUNNING),
    cached=st.integers(0, 10**6),
    shared=st.integers(0, 10**6),
    free_tokens=st.none() | st.integers(-(10**6), 10**6),
    capacity_tokens=st.none() | st.integers(0, 10**7),
    use=st.floats(0, 1),
    caching=st.booleans(),
    reserved=st.booleans(),
)


@given(offer=offers)
def test_the_wire_form_keeps_an_offer(offer: Offer) -> None:
    read = Offer.from_wire({**offer.to_wire(), "unknown": 1})
    assert read.use == pytest.approx(offer.use, abs=1e-4)
    assert Offer.from_wire(read.to_wire()) == read


def test_an_answer_of_the_load_alone_is_an_offer_that_bounds_nothing() -> None:
    assert Offer.from_wire(IDLE.to_wire()) == Offer()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("c", -1, id="a negative cache"),
        pytest.param("f", 1.5, id="half a token"),
        pytest.param("n", True, id="a boolean"),
        pytest.param("u", 1.2, id="more than all"),
        pytest.param("u", math.nan, id="not a number"),
    ],
)
def test_a_malformed_offer_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidLoad, match=f"offer: {field} "):
        Offer.from_wire({**Offer().to_wire(), field: value})


def an_offer(free: int, *, load: InstanceLoad = RUNNING, shared: int = 0) -> Offer:
    return Offer(load, shared=shared, free_tokens=free, capacity_tokens=10_000)


@pytest.mark.parametrize(
    ("offer", "length", "fits"),
    [
        pytest.param(Offer(RUNNING), 10**9, True, id="an instance that tells no memory"),
        pytest.param(an_offer(1065), 1000, True, id="just room for it and its slice"),
        pytest.param(an_offer(1063), 1000, False, id="room for it, not for its slice"),
        pytest.param(an_offer(200, shared=900), 1000, True, id="most of it is there already"),
        pytest.param(an_offer(0, load=IDLE), 1000, True, id="an empty engine takes what it can"),
        pytest.param(an_offer(0), 20_000, True, id="no waiting would help it"),
        pytest.param(
            an_offer(9000, load=InstanceLoad(8, 100, 10_000, 0, 0)), 10, False, id="a full batch"
        ),
    ],
)
def test_who_fits(offer: Offer, length: int, fits: bool) -> None:
    assert has_memory(offer, length, growth=64, max_sequences=8) is fits


def test_what_was_sent_since_counts() -> None:
    after = an_offer(5000).with_sequence(1000, 12.5, 1064)
    assert (after.load.sequences, after.load.kv_tokens) == (4, 4000)
    assert (after.load.waiting_prefill_ms, after.free_tokens) == (12.5, 3936)
