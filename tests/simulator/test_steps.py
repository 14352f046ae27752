"""Times of steps, computed by hand: C0 10 ms, C1 1 ms, C2 0.01 ms, CP 0.1 ms, chunks of 100."""

from dataclasses import replace

import pytest

from cascade_simulator.cluster import InvalidDecision, InvalidRun, simulate
from cascade_simulator.options import RunOptions
from tests.simulator.builders import BY_HAND, Scripted, run, workload


def test_a_lone_request_takes_its_chunks_and_its_steps() -> None:
    outcome = run(workload((5.0, 250, 3)))
    first = 5.0 + 3 * 10 + 250 * 0.1
    assert outcome.first_token_ms == pytest.approx([first])
    # The newest token is computed with the others: 251, then 252 of them.
    assert outcome.end_ms == pytest.approx([first + (11 + 2.51) + (11 + 2.52)])


def test_an_answer_of_one_token_ends_with_its_prompt() -> None:
    outcome = run(workload((0.0, 60, 1)))
    assert outcome.first_token_ms == pytest.approx([16.0])
    assert outcome.end_ms == pytest.approx([16.0])
    assert outcome.tpot_ms == pytest.approx([0.0])


def test_prompts_share_a_chunk_in_order_of_arrival() -> None:
    outcome = run(workload((0.0, 10, 1), (1.0, 60, 1), (2.0, 60, 1)))
    # The first step began with the first request alone; 100 of 120 tokens fit into the second.
    assert outcome.first_token_ms == pytest.approx([11.0, 11 + 20, 11 + 20 + 12])


def test_decoding_takes_a_token_each_of_the_budget() -> None:
    outcome = run(workload((0.0, 10, 50), (1.0, 100, 1)))
    # 99 tokens of the second prompt beside one of the first answer, then the last one.
    second = 11 + (11 + 0.11 + 9.9)
    assert outcome.first_token_ms[1] == pytest.approx(second + (11 + 0.12 + 0.1))


def test_uneven_lengths_make_steps_longer() -> None:
    work = workload((0.0, 10, 40), (0.0, 90, 40))
    even = run(work)
    uneven = run(work, engine=replace(BY_HAND, heterogeneity=0.5))
    assert uneven.end_ms[0] > even.end_ms[0] + 1
    first = 11.0
    beside = first + 11 + 0.11 + 9.0
    # Both decode from here on: lengths 12 and 91.
    penalty = replace(BY_HAND, heterogeneity=0.5).penalty(2, 103, 12**2 + 91**2)
    ends = run(
        workload((0.0, 10, 3), (0.0, 90, 2)), engine=replace(BY_HAND, heterogeneity=0.5)
    ).end_ms
    assert ends == pytest.approx([beside + 12 + 0.01 * penalty * 103] * 2)


def test_no_more_sequences_run_than_the_engine_allows() -> None:
    outcome = run(workload((0.0, 10, 3), (0.0, 10, 3)), engine=replace(BY_HAND, max_sequences=1))
    assert outcome.first_token_ms[1] == pytest.approx(outcome.end_ms[0] + 11)


def test_a_prompt_waits_until_all_of_it_fits_into_memory() -> None:
    engine = replace(BY_HAND, kv_capacity_tokens=120)
    outcome = run(workload((0.0, 80, 5), (1.0, 60, 1)), engine=engine)
    assert outcome.first_token_ms[1] == pytest.approx(outcome.end_ms[0] + 16)
    assert outcome.counters.preemptions == 0


def test_who_grows_beyond_the_memory_throws_out_the_newest_which_is_computed_again() -> None:
    engine = replace(BY_HAND, kv_capacity_tokens=100)
    outcome = run(workload((0.0, 50, 20), (0.0, 40, 20)), engine=engine)
    counters = outcome.counters
    assert counters.preemptions == 1
    assert outcome.end_ms[1] > outcome.end_ms[0]
    # All that was computed of it is computed again, and its newest token beside that.
    assert counters.prefilled == 50 + 40 + counters.recomputed + 1
    assert 40 < counters.recomputed < 60


def test_idle_time_costs_nothing() -> None:
    outcome = run(workload((0.0, 60, 1), (100_000.0, 60, 1)))
    assert outcome.ttft_ms == pytest.approx([16.0, 16.0])


def test_samples_show_the_load_at_regular_moments() -> None:
    options = RunOptions(sample_ms=20.0)
    outcome = run(workload((0.0, 60, 10)), options=options)
    samples = outcome.samples
    assert samples.time_ms[:3] == pytest.approx([0.0, 20.0, 40.0])
    assert samples.sequences[0, 0] == 0
    assert samples.sequences[1, 0] == 1
    assert samples.kv_use[1, 0] == pytest.approx(61 / 10_000)
    assert 0 < samples.prefill_share[1, 0] < 0.9
    assert samples.stage.shape == samples.sequences.shape
    assert outcome.stage_changes[0].counts == (1,)


def test_progress_tells_how_many_requests_have_ended() -> None:
    told: list[int] = []
    simulate(
        workload((0.0, 60, 10), (0.0, 60, 200)),
        BY_HAND,
        1,
        Scripted(1),
        RunOptions(sample_ms=50.0),
        lambda: 0.5,
        told.append,
    )
    assert told[0] == 0
    assert told[-1] == 2
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param([(5.0, 10, 1), (4.0, 10, 1)], "sort the requests", id="out of order"),
        pytest.param([(0.0, 0, 1)], "at least 1", id="no prompt"),
        pytest.param([(0.0, 10, 0)], "at least 1", id="no answer"),
        pytest.param([(0.0, 9000, 1001)], "10001 tokens", id="more than the memory of an engine"),
    ],
)
def test_a_workload_that_cannot_run_is_refused(
    rows: list[tuple[float, int, int]], message: str
) -> None:
    with pytest.raises(InvalidRun, match=message):
        run(workload(*rows))


def test_an_instance_that_is_not_there_is_the_policys_error() -> None:
    with pytest.raises(InvalidDecision, match="scripted placed request 0 on instance 7"):
        run(workload((0.0, 10, 1)), Scripted(1, place=lambda _sequence, _fleet: 7))


def test_nothing_happens_without_requests() -> None:
    outcome = run(workload())
    assert outcome.e2e_ms.shape == (0,)
    assert outcome.counters.steps == 0
