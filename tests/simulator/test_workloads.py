"""Made traffic has the load, the mix and the prefixes that it was asked for."""

from collections import Counter

import numpy as np
import pytest

from cascade_policy.profiles import profile
from cascade_simulator.workload import Request
from cascade_simulator.workloads import (
    CHAT,
    MINUTE_MS,
    InvalidWorkload,
    compressed,
    drifting,
    multi_turn,
    rate_for,
    stationary,
    thinned,
    utilisation,
    work_ms,
)

ENGINE = profile("h100-8b")


def trace(count: int = 600) -> list[Request]:
    """Ten minutes; prompts grow over time, and so does the rate."""
    times = 10 * MINUTE_MS * np.sqrt(np.arange(count) / count)
    return [
        Request(float(time), 100 + number, 50 + number % 100, (number,), number)
        for number, time in enumerate(times)
    ]


def generator() -> np.random.Generator:
    return np.random.default_rng(3)


def test_work_is_what_a_request_takes_on_an_engine_that_is_always_full() -> None:
    [work] = work_ms([Request(0.0, 2048, 101)], ENGINE)
    prefill = ENGINE.prefill_ms(2048)
    step = ENGINE.base_ms / (ENGINE.chunk_tokens * ENGINE.prefill_ms_per_token)
    decode = 100 * ENGINE.sequence_ms(2048 + 101 / 2)
    assert work == pytest.approx(prefill * (1 + step) + decode)


def test_steady_traffic_has_the_load_and_each_request_as_often_as_the_others() -> None:
    rows = trace()
    per_ms = rate_for(rows, ENGINE, 4, 0.7)
    work = stationary("steady", rows, 6000, per_ms, generator())
    assert set(Counter(one.prompt for one in work.requests).values()) == {10}
    load = utilisation(work.requests, ENGINE, 4, work.duration_ms)
    assert load == pytest.approx(0.7, rel=0.05)
    gaps = np.diff([one.arrival_ms for one in work.requests])
    assert (gaps >= 0).all()
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.1)
    assert work.requests[0].blocks


def test_a_compressed_trace_keeps_its_order_and_proportions() -> None:
    rows = trace()
    work = compressed("compressed", rows, ENGINE, 4, 0.5)
    assert [one.prompt for one in work.requests] == [one.prompt for one in rows]
    assert utilisation(work.requests, ENGINE, 4, work.duration_ms) == pytest.approx(0.5)
    half = len(rows) // 2
    share = work.requests[half].arrival_ms / work.duration_ms
    assert share == pytest.approx(rows[half].arrival_ms / rows[-1].arrival_ms)


def test_a_thinned_trace_moves_as_the_whole_one() -> None:
    rows = trace()
    some = thinned(rows, 200, generator())
    assert len(some) == 200
    assert list(some) == sorted(set(some), key=lambda one: one.arrival_ms)
    assert np.mean([one.arrival_ms for one in some]) == pytest.approx(
        np.mean([one.arrival_ms for one in rows]), rel=0.05
    )
    assert thinned(rows, 600, generator()) == tuple(rows)


def test_drifting_traffic_has_the_mix_and_the_rate_of_each_minute() -> None:
    rows = trace()
    work = drifting("drifting", rows, ENGINE, 16, 0.6, (2, 6), generator())
    assert work.duration_ms < 4 * MINUTE_MS
    load = utilisation(work.requests, ENGINE, 16, 4 * MINUTE_MS)
    assert load == pytest.approx(0.6, rel=0.05)
    counts = []
    for minute in range(4):
        drawn = [one for one in work.requests if one.arrival_ms // MINUTE_MS == minute]
        real = [one for one in rows if one.arrival_ms // MINUTE_MS == minute + 2]
        assert {one.prompt for one in drawn} <= {one.prompt for one in real}
        counts.append(len(drawn) / len(real))
    assert np.std(counts) / np.mean(counts) < 0.05
    assert not any(one.blocks for one in work.requests)


def test_each_turn_of_a_chat_begins_with_all_of_the_turn_before() -> None:
    work = multi_turn("chat", CHAT, 4000, 0.01, generator())
    size, shared = work.block_tokens, CHAT.system_prompt // work.block_tokens
    latest: dict[int | None, Request] = {}
    followed = 0
    for one in work.requests:
        assert len(one.blocks) == (one.prompt + one.output) // size
        assert one.prompt + one.output <= CHAT.max_length
        before = latest.get(one.session)
        if before is not None:
            followed += 1
            assert one.prompt > before.prompt + before.output
            assert one.blocks[: len(before.blocks)] == before.blocks
            assert one.arrival_ms > before.arrival_ms
        latest[one.session] = one
    assert followed > 1000
    first, second = list(latest.values())[:2]
    common = set(first.blocks) & set(second.blocks)
    assert len(common) == min(shared, len(first.blocks), len(second.blocks))


def test_a_chat_has_the_stated_means_and_a_steady_rate() -> None:
    work = multi_turn("chat", CHAT, 20_000, 0.01, generator())
    assert len(work.requests) == 20_000
    assert len(work.requests) / work.duration_ms == pytest.approx(0.01, rel=0.1)
    sessions = len({one.session for one in work.requests})
    assert len(work.requests) / sessions == pytest.approx(CHAT.mean_turns, rel=0.1)
    assert np.mean([one.output for one in work.requests]) == pytest.approx(441, rel=0.05)
    tenth = len(work.requests) // 10
    prompts = [one.prompt for one in work.requests]
    assert np.mean(prompts[:tenth]) == pytest.approx(np.mean(prompts[-tenth:]), rel=0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(
            lambda: stationary("none", [], 5, 1.0, generator()), "no requests", id="empty trace"
        ),
        pytest.param(
            lambda: compressed("burst", [Request(0.0, 5, 5)] * 3, ENGINE, 1, 0.5),
            "arrive at once",
            id="all at once",
        ),
        pytest.param(
            lambda: drifting("short", trace(), ENGINE, 1, 0.5, (30, 40), generator()),
            "it lasts 10 minutes",
            id="minutes that the trace does not have",
        ),
    ],
)
def test_what_cannot_be_made_says_why(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(InvalidWorkload, match=message):
        make()
