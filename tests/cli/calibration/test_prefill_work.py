"""The work of prompts, from how they hold up a decoding sequence."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_cli.calibration.prefill_work import (
    PLAIN_STEPS,
    PrefillWork,
    chunk_tokens,
    clock_step_ms,
    prefill_work,
)
from cascade_cli.calibration.records import Probe, Stream
from cascade_policy.engine_model import EngineModel
from cascade_policy.profiles import profile

ENGINE = profile("h100-8b")
PLAIN = 30


def probe(
    tokens: int,
    engine: EngineModel,
    jitter_ms: float = 0.0,
    queue_ms: float = 0.0,
    seed: int = 0,
) -> Probe:
    """A prompt that is cut into chunks, beside a clock; it waits for `queue_ms` before it runs."""
    plain = engine.decode_ms(1, 100)
    waiting = [plain] * round(queue_ms / plain)
    edges = [*range(0, tokens, engine.chunk_tokens), tokens]
    chunks = [plain + engine.prefill_ms(end, start) for start, end in pairwise(edges)]
    steps = [*[plain] * PLAIN, *waiting, *chunks, *[plain] * PLAIN]
    exact = list(accumulate(steps))
    rng = np.random.default_rng(seed)
    late = np.maximum.accumulate([time + jitter_ms * rng.random() for time in exact])
    asked = exact[PLAIN - 1] + jitter_ms + 0.01
    answered = exact[PLAIN + len(waiting) + len(chunks) - 1] + jitter_ms
    clock = Stream(32, tuple((late / 1000).tolist()), tuple(range(1, len(steps) + 1)))
    return Probe("prompt 1", tokens, 0, asked / 1000, answered / 1000, clock)


def works(lengths: Sequence[int], engine: EngineModel) -> list[PrefillWork]:
    found = [prefill_work(probe(length, engine)) for length in lengths]
    return [work for work in found if work is not None]


@given(
    tokens=st.integers(200, 40_000),
    jitter_ms=st.floats(0, 2),
    queue_ms=st.floats(0, 100),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_work_is_found_whatever_chunks_queue_and_jitter(
    tokens: int, jitter_ms: float, queue_ms: float, seed: int
) -> None:
    found = prefill_work(probe(tokens, ENGINE, jitter_ms, queue_ms, seed))
    assert found is not None
    steps = tokens / ENGINE.chunk_tokens + queue_ms / ENGINE.base_ms + PLAIN_STEPS + 3
    # Late by at most `jitter_ms` here and there; over half of the plain steps, the undisturbed step
    # is wrong by as much, and counts for each step from the middle before to the middle after.
    most = jitter_ms * (1 + 2 * steps / PLAIN_STEPS)
    assert found.ms == pytest.approx(ENGINE.prefill_ms(tokens), rel=1e-6, abs=most)


def test_jitter_costs_less_than_itself_as_a_rule() -> None:
    found = [prefill_work(probe(8000, ENGINE, jitter_ms=2.0, seed=seed)) for seed in range(60)]
    off = [abs(work.ms - ENGINE.prefill_ms(8000)) for work in found if work is not None]
    assert len(off) == 60
    assert np.median(off) < 1.0


def test_tokens_of_the_prefix_cache_are_told() -> None:
    found = prefill_work(replace(probe(4000, ENGINE), cached_tokens=1024))
    assert found is not None
    assert (found.tokens, found.cached) == (4000, 1024)


def test_a_clock_that_ends_at_once_tells_nothing() -> None:
    whole = probe(4000, ENGINE)
    kept = sum(time <= whole.answered for time in whole.clock.times)
    clock = Stream(32, whole.clock.times[:kept], whole.clock.counts[:kept])
    assert prefill_work(replace(whole, clock=clock)) is None


def test_a_prompt_that_seems_to_have_taken_no_time_tells_nothing() -> None:
    whole = probe(200, ENGINE)
    times = tuple(0.01 * n - (0.5 if n > PLAIN + 1 else 0) for n in whole.clock.counts)
    assert prefill_work(replace(whole, clock=replace(whole.clock, times=times))) is None


def test_the_step_of_a_clock_is_that_without_prompts() -> None:
    clock = probe(8000, ENGINE).clock
    assert clock_step_ms(clock) == pytest.approx(ENGINE.decode_ms(1, 100))


def test_the_step_of_a_clock_is_found_where_events_come_together() -> None:
    clock = probe(8000, ENGINE).clock
    late = [max(time for time, other in clock.points if other <= n + n % 2) for n in clock.counts]
    assert clock_step_ms(replace(clock, times=tuple(late))) == pytest.approx(
        ENGINE.decode_ms(1, 100), rel=0.05
    )


@pytest.mark.parametrize("chunk", [256, 512, 2048, 8192])
def test_chunks_that_are_a_power_of_two_are_found_exactly(chunk: int) -> None:
    engine = replace(ENGINE, chunk_tokens=chunk)
    assert chunk_tokens(works([4000, 8000, 16_000, 24_000, 32_000], engine)) == chunk


def test_chunks_of_another_size_are_found_about() -> None:
    engine = replace(ENGINE, chunk_tokens=1500)
    found = chunk_tokens(works([8000, 16_000, 32_000], engine))
    assert found == pytest.approx(1500, rel=0.05)


def test_prompts_that_are_never_cut_do_not_tell_the_chunk() -> None:
    assert chunk_tokens(works([500, 1000, 2000], ENGINE)) is None
