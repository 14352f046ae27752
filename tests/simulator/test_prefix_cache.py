"""What an engine keeps of prompts."""

from dataclasses import replace

import pytest

from cascade_simulator.options import RunOptions
from cascade_simulator.prefix_cache import PrefixCache
from cascade_simulator.workload import Request, Workload
from tests.simulator.builders import BY_HAND, run


def test_leading_blocks_match_up_to_the_first_that_is_not_there() -> None:
    cache = PrefixCache(10)
    cache.hold((1, 2, 4))
    assert cache.match((1, 2, 3, 4)) == 2
    assert cache.match((2, 1)) == 2
    assert cache.match((5, 1)) == 0


def test_a_shared_block_takes_memory_once() -> None:
    cache = PrefixCache(10)
    cache.hold((1, 2))
    cache.hold((1, 3))
    assert cache.saved_tokens == 10
    assert cache.held_tokens((1, 2, 9)) == 20
    cache.release((1, 2))
    assert cache.saved_tokens == 0
    assert cache.held_tokens((1, 2)) == 10


def test_what_was_not_used_for_longest_goes_first_and_the_end_before_the_start() -> None:
    cache = PrefixCache(10)
    cache.keep((1, 2, 3))
    cache.keep((7, 8))
    cache.keep((1,))
    cache.shrink(30)
    assert cache.kept_tokens == 30
    assert cache.match((1, 2)) == 1
    assert cache.match((7, 8)) == 2


def test_held_blocks_stay_however_little_room_there_is() -> None:
    cache = PrefixCache(10)
    cache.keep((1, 2))
    cache.hold((1,))
    cache.shrink(0)
    assert cache.match((1, 2)) == 1


def test_only_full_blocks_are_shared() -> None:
    request = Request(0.0, 25, 10, (1, 2, 3, 4))
    cache = PrefixCache(10)
    assert cache.full_blocks(request) == (1, 2)
    assert cache.full_blocks(request, 34) == (1, 2, 3)


def test_a_dead_instance_remembers_nothing() -> None:
    cache = PrefixCache(10)
    cache.hold((1, 2))
    cache.keep((3,))
    cache.clear()
    assert (cache.match((1,)), cache.match((3,)), cache.saved_tokens) == (0, 0, 0)


CACHED = RunOptions(prefix_cache=True)


def test_an_answer_is_kept_for_the_turn_that_contains_it() -> None:
    first = Request(0.0, 64, 64, tuple(range(8)))
    second = Request(5000.0, 160, 1, tuple(range(10)))
    outcome = run(Workload("turns", (first, second), 16), options=CACHED)
    # The last token of an answer is never computed, so that its block is not full.
    assert outcome.counters.prefix_hits == 7 * 16
    assert outcome.ttft_ms[1] == pytest.approx(10 + 0.1 * (160 - 7 * 16))


def test_prompts_that_begin_alike_share_memory() -> None:
    engine = replace(BY_HAND, kv_capacity_tokens=150)
    rows = [Request(time, 97, 20, tuple(range(6))) for time in (0.0, 50.0)]
    work = Workload("alike", tuple(rows), 16)
    shared = run(work, engine=engine, options=CACHED)
    alone = run(work, engine=engine)
    assert shared.first_token_ms[1] < shared.end_ms[0]
    assert alone.first_token_ms[1] > alone.end_ms[0]
    assert shared.samples.kv_use.max() <= 1
