"""The time of a step, from arrivals that networks and machines disturb."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_cli.calibration.decode_steps import MOST_SLIP, decode_step
from cascade_cli.calibration.records import Rung, Stream

STEPS = 48
NUMBERS = range(1, STEPS + 1)


def stream(prompt: int, times: list[float], first: int = 1) -> Stream:
    """One that got a token at each of `times`."""
    return Stream(prompt, tuple(times), tuple(range(first, first + len(times))))


def rung(*streams: Stream) -> Rung:
    start = max(one.first for one in streams)
    end = min(one.times[-1] for one in streams if one.is_watched)
    return Rung("batch 1", start, end, streams)


@given(
    step=st.floats(0.002, 0.5),
    jitter=st.floats(0, 0.3),
    prompts=st.lists(st.integers(1, 5000), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_late_events_change_the_median_step_little(
    step: float, jitter: float, prompts: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    streams = [
        stream(prompt, np.maximum.accumulate(
            [step * n + step * jitter * rng.random() for n in NUMBERS]).tolist())
        for prompt in prompts
    ]  # fmt: skip
    found = decode_step(rung(*streams))
    assert found is not None
    assert found.ms == pytest.approx(1000 * step, rel=jitter / 2 + 1e-6)
    assert found.sequences == len(prompts)


@pytest.mark.parametrize("stalled_at", [10, 24, 40])
def test_a_stall_is_in_the_mean_and_not_in_the_median(stalled_at: int) -> None:
    times = [0.01 * n + (1.0 if n > stalled_at else 0.0) for n in NUMBERS]
    found = decode_step(rung(stream(100, times)))
    assert found is not None
    assert found.ms == pytest.approx(10)
    assert found.mean_ms > 25


def test_events_that_bring_several_tokens_are_as_many_steps() -> None:
    times = [0.01 * n for n in NUMBERS if n % 3 != 1]
    counts = tuple(n for n in NUMBERS if n % 3 != 1)
    found = decode_step(rung(Stream(50, tuple(times), counts)))
    assert found is not None
    assert found.ms == pytest.approx(10)


@pytest.mark.parametrize("together", [2, 3, 5])
def test_events_that_come_together_are_as_late_as_all_but_the_last(together: int) -> None:
    # A busy host delivers some at once, when the last of them is due.
    times = [0.01 * (n + (-n) % together) + 1e-5 * n for n in NUMBERS]
    found = decode_step(rung(stream(100, times)))
    assert found is not None
    assert found.ms == pytest.approx(10, rel=0.01)


def test_the_steps_before_the_last_prompt_was_computed_do_not_count() -> None:
    early = [0.1 * n for n in range(20)]
    late = [early[-1] + 0.01 * n for n in NUMBERS]
    old = stream(100, early + late)
    new = stream(200, late)
    found = decode_step(rung(old, new))
    assert found is not None
    assert found.ms == pytest.approx(10)
    assert found.mean_ms == pytest.approx(10)


def test_lengths_are_those_in_the_middle_of_the_rung() -> None:
    times = [0.01 * n for n in NUMBERS]
    found = decode_step(rung(stream(100, times), stream(300, times)))
    assert found is not None
    # The first step is over the prompt and one token, the last over all tokens but one.
    assert found.kv_tokens == pytest.approx(100 + 300 + 2 * (1 + (STEPS - 1)) / 2)
    assert found.cv == pytest.approx(100 / (found.kv_tokens / 2))


def test_a_stream_that_is_not_watched_grows_with_the_others() -> None:
    times = [0.01 * n for n in NUMBERS]
    pace = stream(100, times)
    watched = decode_step(rung(pace, stream(300, times[9:])))
    unwatched = decode_step(rung(pace, Stream(300, (times[9],), (1,))))
    assert watched is not None
    assert unwatched is not None
    assert unwatched.kv_tokens == pytest.approx(watched.kv_tokens)
    assert unwatched.cv == pytest.approx(watched.cv)


def test_a_rung_whose_streams_kept_no_common_step_tells_nothing() -> None:
    times = [0.01 * n for n in NUMBERS]
    preempted = times[: STEPS - MOST_SLIP - 3] + times[-1:]
    assert decode_step(rung(stream(100, times), stream(100, preempted))) is None


def test_a_rung_that_is_too_short_tells_nothing() -> None:
    short = rung(stream(100, [0.01 * n for n in NUMBERS]))
    assert decode_step(replace(short, end=short.start + 0.1)) is None
