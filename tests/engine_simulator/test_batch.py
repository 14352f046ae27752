"""The batch: steps cost what the model says, and every block comes back."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_policy.engine_model import EngineModel
from cascade_policy.profiles import profile
from e2e.engine_simulator.batch import Batch, LiveSequence, Sampling, Step, make_sequence
from e2e.engine_simulator.next_token import expected_output
from e2e.engine_simulator.vocabulary import WORD_IDS

MODEL = replace(profile("simulated"), chunk_tokens=64, kv_capacity_tokens=1024, max_sequences=8)


def words(count: int, start: int = 0) -> list[int]:
    return [WORD_IDS[(start + place * 7) % len(WORD_IDS)] for place in range(count)]


def sequence(
    prompt: Sequence[int], max_tokens: int, model: EngineModel = MODEL, salt: str = ""
) -> LiveSequence:
    sampling = Sampling(max_tokens, ignore_eos=True)
    return make_sequence(prompt, sampling, model.block_tokens, salt)


def next_step(batch: Batch) -> Step:
    step = batch.start_step()
    assert step is not None
    return step


def run_to_end(batch: Batch) -> dict[LiveSequence, list[int]]:
    """All steps until nothing is left; the ids of each sequence."""
    ids: dict[LiveSequence, list[int]] = {}
    while (step := batch.start_step()) is not None:
        assert batch.pool.used <= batch.pool.capacity
        for live in batch.finish_step(step):
            ids.setdefault(live, []).append(live.last)
    return ids


def test_a_prompt_is_prefilled_in_chunks_and_its_last_chunk_brings_the_first_token() -> None:
    batch = Batch(MODEL)
    batch.submit(sequence(words(150), 5))
    chunks, produced = [], []
    for _ in range(3):
        step = next_step(batch)
        chunks.append([chunk for _, chunk in step.prefilling])
        produced.append(len(batch.finish_step(step)))
    assert chunks == [[64], [64], [22]]
    assert produced == [0, 0, 1]


def test_prefill_takes_the_budget_that_decoding_leaves() -> None:
    batch = Batch(MODEL)
    batch.submit(sequence(words(10), 50))
    batch.finish_step(next_step(batch))
    batch.submit(sequence(words(150, 3), 5))
    step = next_step(batch)
    assert len(step.decoding) == 1
    assert [chunk for _, chunk in step.prefilling] == [63]
    assert step.tokens == 64


def test_a_step_takes_as_long_as_the_engine_model_says() -> None:
    batch = Batch(MODEL)
    lengths = (10, 40)
    for start, length in enumerate(lengths):
        batch.submit(sequence(words(length, start), 50))
        batch.finish_step(next_step(batch))
    # The first one has decoded one token more in the meantime.
    held = [10 + 2, 40 + 1]
    batch.submit(sequence(words(150, 9), 5))
    step = next_step(batch)
    penalty = MODEL.penalty(2, sum(held), sum(length * length for length in held))
    assert penalty > 1
    expected = MODEL.decode_ms(2, sum(held), penalty) + MODEL.prefill_ms(62)
    assert step.seconds == pytest.approx(expected / 1000)


def test_a_later_chunk_costs_more_because_it_attends_to_the_earlier_ones() -> None:
    batch = Batch(MODEL)
    batch.submit(sequence(words(128), 5))
    first = next_step(batch)
    batch.finish_step(first)
    second = next_step(batch)
    assert first.seconds == pytest.approx((MODEL.decode_ms(0, 0) + MODEL.prefill_ms(64)) / 1000)
    assert second.seconds == pytest.approx(
        (MODEL.decode_ms(0, 0) + MODEL.prefill_ms(128, 64)) / 1000
    )


def test_what_is_in_the_prefix_cache_is_not_computed_again() -> None:
    batch = Batch(MODEL)
    prompt = words(100)
    batch.submit(sequence(prompt, 20))
    (ids,) = run_to_end(batch).values()
    resumed = sequence(prompt + ids, 5)
    batch.submit(resumed)
    step = next_step(batch)
    # 120 tokens; the last one never entered the KV cache, and only whole blocks count.
    assert resumed.cached_tokens == 112
    assert step.prefilling == [(resumed, 8)]


def test_a_fully_cached_prompt_still_computes_its_last_block() -> None:
    batch = Batch(MODEL)
    for _ in range(2):
        live = sequence(words(64), 2)
        batch.submit(live)
        run_to_end(batch)
    assert live.cached_tokens == 48


@pytest.mark.parametrize(
    ("caching", "salts"), [(False, ("", "")), (True, ("one", "two")), (True, ("", "one"))]
)
def test_nothing_is_shared_with_caching_off_or_another_salt(
    caching: bool, salts: tuple[str, str]
) -> None:
    batch = Batch(MODEL, prefix_caching=caching)
    for salt in salts:
        live = sequence(words(100), 2, salt=salt)
        batch.submit(live)
        run_to_end(batch)
    assert live.cached_tokens == 0


def test_the_salt_changes_no_token() -> None:
    outputs: list[list[int]] = []
    for salt in ("", "one"):
        batch = Batch(MODEL)
        batch.submit(sequence(words(30), 10, salt=salt))
        outputs += run_to_end(batch).values()
    assert outputs[0] == outputs[1]


def test_when_memory_is_full_the_newest_is_preempted_and_still_ends_right() -> None:
    model = replace(MODEL, kv_capacity_tokens=20 * 16)
    batch = Batch(model)
    prompts = [words(90, 10 * start) for start in range(3)]
    for prompt in prompts:
        batch.submit(sequence(prompt, 60, model))
    outputs = run_to_end(batch)
    assert batch.preemptions > 0
    found = sorted(tuple(ids) for ids in outputs.values())
    assert found == sorted(expected_output(p, 60, ignore_eos=True).ids for p in prompts)
    assert batch.pool.used == 0


def test_no_more_run_at_once_than_the_model_allows() -> None:
    batch = Batch(replace(MODEL, max_sequences=2))
    for start in range(3):
        batch.submit(sequence(words(5, start), 3))
    next_step(batch)
    assert (len(batch.running), len(batch.waiting)) == (2, 1)


def test_an_aborted_sequence_gives_its_blocks_back_at_once() -> None:
    batch = Batch(MODEL)
    running, waiting = sequence(words(60), 50), sequence(words(60, 3), 50)
    batch.submit(running)
    step = next_step(batch)
    batch.submit(waiting)
    batch.abort(running)
    batch.abort(waiting)
    assert batch.pool.used == 0
    assert batch.finish_step(step) == []
    assert batch.start_step() is None


def test_an_end_of_text_before_min_tokens_is_replaced() -> None:
    prompt = next([number] for number in WORD_IDS if len(expected_output([number], 500).ids) < 50)
    batch = Batch(MODEL)
    batch.submit(make_sequence(prompt, Sampling(100, min_tokens=100), MODEL.block_tokens))
    (ids,) = run_to_end(batch).values()
    assert len(ids) == 100


def test_a_stop_token_ends_the_sequence_and_is_named() -> None:
    prompt = words(10)
    uncut = expected_output(prompt, 20, ignore_eos=True).ids
    batch = Batch(MODEL)
    sampling = Sampling(50, stop_ids=frozenset({uncut[4]}))
    batch.submit(make_sequence(prompt, sampling, MODEL.block_tokens))
    ((live, ids),) = run_to_end(batch).items()
    assert tuple(ids) == uncut[: uncut.index(uncut[4]) + 1]
    assert (live.finish_reason, live.stop_reason) == ("stop", uncut[4])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 200), st.integers(1, 40), st.integers(0, 3), st.integers(0, 30)),
        min_size=1,
        max_size=14,
    ),
    st.integers(16, 64),
    st.booleans(),
)
def test_whatever_comes_goes_and_is_aborted_all_blocks_come_back(
    requests: list[tuple[int, int, int, int]], blocks: int, caching: bool
) -> None:
    model = replace(MODEL, kv_capacity_tokens=blocks * 16)
    batch = Batch(model, prefix_caching=caching)
    aborts: list[tuple[int, LiveSequence]] = []
    expected: dict[LiveSequence, tuple[int, ...]] = {}
    for prompt_length, max_tokens, start, abort_at in requests:
        prompt = words(min(prompt_length, blocks * 16 - max_tokens), start)
        live = sequence(prompt, max_tokens, model)
        batch.submit(live)
        expected[live] = expected_output(prompt, max_tokens, ignore_eos=True).ids
        if abort_at < 15:
            aborts.append((abort_at, live))
    ids: dict[LiveSequence, list[int]] = {live: [] for live in expected}
    passed = 0
    while (step := batch.start_step()) is not None:
        for _, live in [pair for pair in aborts if pair[0] == passed]:
            batch.abort(live)
        for live in batch.finish_step(step):
            ids[live].append(live.last)
        held = sum(live.blocks for live in batch.running)
        assert batch.pool.used <= held
        assert batch.pool.used + batch.pool.cached <= batch.pool.capacity
        passed += 1
    assert batch.pool.used == 0
    assert not batch.running
    assert not batch.waiting
    for live, whole in expected.items():
        assert tuple(ids[live]) == whole[: len(ids[live])]
        if live.finish_reason == "length":
            assert tuple(ids[live]) == whole
