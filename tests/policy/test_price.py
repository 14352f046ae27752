"""The price formula against a second way of writing it, its limits, and who wins."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_policy.engine_model import EngineModel
from cascade_policy.load import IDLE, InstanceLoad
from cascade_policy.price import (
    KV_LIMIT,
    TIE_MS,
    TIE_SHARE,
    Bid,
    ChoiceReason,
    expected_remaining,
    has_risen,
    pick,
    price,
)
from cascade_policy.profiles import PROFILES
from cascade_policy.stage_map import Boundaries, Stage, StageMap

SIMULATED = PROFILES["simulated"]
SOFT, HARD = Boundaries.SOFT, Boundaries.HARD


def a_load(**changes: float) -> InstanceLoad:
    fields = {"b": 8, "s": 8000, "s2": 10_000_000, "w": 0.0, "p": 0.0, **changes}
    return InstanceLoad.from_wire(fields)


def by_hand(
    load: InstanceLoad, m: EngineModel, length: int, n: float, tpot: float, cached: int
) -> float:
    """The formula, written out from the engine's coefficients."""
    batch = load.sequences

    def decode(b: int, s: int, s2: int) -> float:
        cv = math.sqrt(max(0.0, b * s2 / s**2 - 1)) if s else 0.0
        uneven = min(1.5, 1 + m.heterogeneity * cv)
        return m.base_ms + m.per_sequence_ms * b + m.per_kv_token_ms * uneven * s

    w = m.prefill_ms_per_token * length + m.prefill_ms_per_token_squared * length**2 / 2
    held = min(cached, length)
    w -= m.prefill_ms_per_token * held + m.prefill_ms_per_token_squared * held**2 / 2
    step = decode(batch, load.kv_tokens, load.kv_tokens_squared)
    grown = load.plus(length)
    d = decode(grown.sequences, grown.kv_tokens, grown.kv_tokens_squared) - step
    before, after = step / (1 - load.prefill_share), (step + d) / (1 - load.prefill_share)
    phi = 1 + step / (m.chunk_tokens * m.prefill_ms_per_token)
    waiting = load.waiting_prefill_ms
    tau = 0.9 * tpot
    barrier = (batch + 1) * max(0, after - tau) - batch * max(0, before - tau)
    scale = m.chunk_tokens * m.prefill_ms_per_token + w / 5
    wait = phi * (28 * waiting * (1 + waiting / scale) + 8 * w)
    return n * (after + batch * d) + batch * w + wait + n * barrier


@given(
    profile=st.sampled_from(sorted(PROFILES)),
    lengths=st.lists(st.integers(1, 3000), max_size=30),
    waiting=st.floats(0, 5000),
    share=st.floats(0, 0.9),
    length=st.integers(1, 8000),
    cached=st.integers(0, 9000),
    remaining=st.floats(0, 2000),
    tpot=st.floats(5, 200),
)
def test_the_price_is_the_formula(
    profile: str,
    lengths: list[int],
    waiting: float,
    share: float,
    length: int,
    cached: int,
    remaining: float,
    tpot: float,
) -> None:
    model = PROFILES[profile]
    squares = sum(one * one for one in lengths)
    load = InstanceLoad(len(lengths), sum(lengths), squares, waiting, share)
    if load.kv_tokens + length > KV_LIMIT * model.kv_capacity_tokens:
        return
    assert price(load, model, length, remaining, tpot, cached) == pytest.approx(
        by_hand(load, model, length, remaining, tpot, cached), rel=1e-9
    )


@pytest.mark.parametrize(
    ("cheap", "dear"),
    [
        pytest.param(a_load(b=4, s=4000), a_load(), id="fewer sequences"),
        pytest.param(a_load(), a_load(w=300), id="less waiting prefill"),
        pytest.param(a_load(), a_load(p=0.5), id="less time spent on prefill"),
        pytest.param(a_load(s2=8_000_000), a_load(s2=20_000_000), id="more even lengths"),
    ],
)
def test_an_instance_is_cheaper_with(cheap: InstanceLoad, dear: InstanceLoad) -> None:
    assert price(cheap, SIMULATED, 1000, 200, 100) < price(dear, SIMULATED, 1000, 200, 100)


def test_a_cached_prefix_makes_an_instance_cheaper() -> None:
    blind = price(a_load(), SIMULATED, 4000, 200, 100)
    assert price(a_load(), SIMULATED, 4000, 200, 100, cached=3500) < 0.65 * blind


def test_uneven_lengths_keep_like_sequences_together() -> None:
    short, long = a_load(s=4000, s2=2_000_000), a_load(s=16_000, s2=32_000_000)
    even = replace(SIMULATED, heterogeneity=0.0)

    def premium(model: EngineModel, length: int) -> float:
        """What the batch of short sequences asks beyond that of long ones."""
        ours, theirs = (price(load, model, length, 200, 1000) for load in (short, long))
        return ours / theirs

    assert premium(SIMULATED, 500) < premium(even, 500)
    assert premium(SIMULATED, 2000) > premium(even, 2000)


def test_waiting_work_costs_more_than_in_proportion() -> None:
    idle, some, twice = (price(a_load(w=w), SIMULATED, 100, 10, 100) for w in (0, 200, 400))
    assert twice - idle > 2.2 * (some - idle)


def test_the_price_rises_steeply_where_steps_reach_the_tpot_target() -> None:
    assert price(a_load(), SIMULATED, 1000, 200, 25) > 1.2 * price(
        a_load(), SIMULATED, 1000, 200, 100
    )


@pytest.mark.parametrize(
    ("load", "length", "finite"),
    [
        pytest.param(a_load(s=100_000), 16_400, True, id="97 % of the KV cache are for sale"),
        pytest.param(a_load(s=100_000), 16_401, False, id="not a token more"),
        pytest.param(a_load(b=63), 100, True, id="the last seat of the batch"),
        pytest.param(a_load(b=64), 100, False, id="a full batch"),
    ],
)
def test_the_price_is_infinite_when_it_does_not_fit(
    load: InstanceLoad, length: int, finite: bool
) -> None:
    assert math.isfinite(price(load, SIMULATED, length, 200, 100)) is finite


def bids(*prices: tuple[int, float]) -> list[Bid]:
    return [Bid(f"i{n}", stage, amount) for n, (stage, amount) in enumerate(prices)]


INF = math.inf


@pytest.mark.parametrize(
    ("offers", "stage", "mode", "winner", "reason"),
    [
        pytest.param(
            bids((0, 1000), (1, 960)), 0, SOFT, "i0", "own-stage",
            id="the bias keeps a small difference at home",
        ),
        pytest.param(
            bids((0, 1000), (1, 940)), 0, SOFT, "i1", "other-stage",
            id="a larger difference leaves the stage",
        ),
        pytest.param(
            bids((0, 1000), (2, 940)), 0, SOFT, "i0", "own-stage",
            id="two stages away cost twice the bias",
        ),
        pytest.param(
            bids((0, INF), (1, 9000)), 0, SOFT, "i1", "other-stage",
            id="a full stage overflows when boundaries are soft",
        ),
        pytest.param(
            bids((0, 5000), (1, 10)), 0, HARD, "i0", "own-stage",
            id="hard boundaries do not look elsewhere",
        ),
        pytest.param(
            bids((0, INF), (1, 10)), 0, HARD, "i0", "saturated",
            id="hard boundaries queue in a full stage",
        ),
        pytest.param(
            bids((0, 10), (3, 5000)), 2, HARD, "i1", "empty-stage",
            id="an empty stage falls to its nearest neighbour",
        ),
        pytest.param(
            bids((0, 10), (2, 5000)), 1, HARD, "i1", "empty-stage",
            id="of two neighbours the one for longer lengths",
        ),
        pytest.param(
            bids((0, 10), (2, 50)), 1, SOFT, "i0", "other-stage",
            id="with soft boundaries an empty stage goes to the cheapest",
        ),
    ],
)  # fmt: skip
def test_who_gets_it(
    offers: list[Bid], stage: int, mode: Boundaries, winner: str, reason: str
) -> None:
    choice = pick(offers, stage, mode, 0.05, 0.0)
    assert choice is not None
    assert (choice.instance, choice.reason.value) == (winner, reason)
    assert choice.price == next(bid.price for bid in offers if bid.instance == winner)


def test_nobody_gets_it_when_nobody_bid() -> None:
    assert pick([], 0, SOFT, 0.05, 0.5) is None


def test_when_all_are_full_the_one_with_the_fewest_tokens_queues_it() -> None:
    full = [Bid("a", 0, INF, a_load(s=900)), Bid("b", 0, INF, a_load(s=800))]
    choice = pick(full, 0, SOFT, 0.05, 0.0)
    assert choice is not None
    assert (choice.instance, choice.reason) == ("b", ChoiceReason.SATURATED)


def test_chance_decides_within_the_tie_band_of_the_best_stage_only() -> None:
    offers = bids((0, 1000), (0, 1059), (0, 1061), (1, 1000))
    chosen = {pick(offers, 0, SOFT, 0.05, draw / 100).instance for draw in range(100)}  # type: ignore[union-attr]
    assert chosen == {"i0", "i1"}


@given(
    offers=st.lists(
        st.tuples(st.integers(0, 4), st.floats(0, 1e6) | st.just(INF)), min_size=1, max_size=20
    ),
    stage=st.integers(0, 4),
    mode=st.sampled_from(Boundaries),
    bias=st.floats(0, 1),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_the_winner_is_within_the_tie_band_of_the_best(
    offers: list[tuple[int, float]], stage: int, mode: Boundaries, bias: float, draw: float
) -> None:
    choice = pick(bids(*offers), stage, mode, bias, draw)
    assert choice is not None
    considered = [
        (foreign, amount) for foreign, amount in offers if mode is SOFT or foreign == choice.stage
    ]
    best = min(amount * (1 + bias * abs(foreign - stage)) for foreign, amount in considered)
    paid = choice.price * (1 + bias * abs(choice.stage - stage))
    assert paid <= best * (1 + TIE_SHARE) + TIE_MS + 1e-6 or math.isinf(best)


@pytest.mark.parametrize(
    ("bid", "now", "risen"),
    [
        pytest.param(100.0, 174.9, False, id="a quarter and 50 ms are tolerated"),
        pytest.param(100.0, 175.1, True, id="more is not"),
        pytest.param(100.0, INF, True, id="an instance that filled up asks for another bid"),
    ],
)
def test_when_a_price_has_risen(bid: float, now: float, risen: bool) -> None:
    assert has_risen(bid, now) is risen


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        pytest.param(None, 300.0, id="no limit of the client"),
        pytest.param(40, 40.0, id="a client who wants less than usual"),
        pytest.param(4000, 300.0, id="a client who allows more than usual"),
        pytest.param(-3, 0.0, id="a limit that is used up"),
    ],
)
def test_expected_remaining_is_bounded_by_the_client(limit: int | None, expected: float) -> None:
    stage_map = StageMap(
        plan_id="p",
        time="t",
        model="m",
        max_length=100,
        engine=SIMULATED,
        stages=(Stage(0, 0, 100, "s"),),
        expected_remaining=((100, 300.0),),
    )
    assert expected_remaining(stage_map, 50, limit) == expected


def test_an_idle_instance_asks_for_its_own_time_only() -> None:
    step = SIMULATED.decode_ms(1, 1000)
    w = SIMULATED.prefill_ms(1000)
    phi = SIMULATED.stretch(SIMULATED.base_ms)
    assert price(IDLE, SIMULATED, 1000, 200, 100) == pytest.approx(200 * step + 8 * phi * w)
