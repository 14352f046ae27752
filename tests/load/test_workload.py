"""Requests: exact lengths, a fixed mix, and the same again for the same seed."""

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cascade_cli.traces import TraceRequest
from e2e.engine_simulator.api_request import parse_generation
from e2e.load.schedule import Arrival
from e2e.load.workload import Kind, make_request


def arrival(index: int, prompt: int = 60, output: int = 5, blocks: tuple[int, ...] = ()) -> Arrival:
    return Arrival(0.0, index, TraceRequest(0.0, prompt, output, blocks))


@given(st.integers(0, 10_000), st.integers(1, 700), st.integers(1, 50))
def test_an_engine_reads_exactly_the_prompt_and_the_lengths_of_the_trace(
    index: int, prompt: int, output: int
) -> None:
    request = make_request(arrival(index, prompt, output), model="demo", seed=1)
    body = json.loads(request.body)
    read = parse_generation(
        body, chat=request.kind is Kind.CHAT, model="demo", max_length=prompt + output
    )
    assert tuple(read.prompt) == request.prompt
    assert len(request.prompt) == prompt
    assert read.sampling.max_tokens == output
    assert read.sampling.ignore_eos
    assert len(request.expected.ids) == output
    assert (read.stream, read.return_token_ids) == (request.stream, request.with_ids)


def test_the_mix_is_as_documented() -> None:
    requests = [make_request(arrival(index), model="demo", seed=1) for index in range(2000)]
    kinds = Counter(request.kind for request in requests)
    assert 0.36 < kinds[Kind.IDS] / 2000 < 0.44
    assert 0.16 < kinds[Kind.TEXT] / 2000 < 0.24
    assert 0.36 < kinds[Kind.CHAT] / 2000 < 0.44
    assert 0.03 < sum(not request.stream for request in requests) / 2000 < 0.07


def test_a_share_of_the_requests_is_pinned_and_asks_for_the_same() -> None:
    free = [make_request(arrival(index), model="demo", seed=1) for index in range(400)]
    some = [
        make_request(arrival(index), model="demo", seed=1, pinned_share=0.3) for index in range(400)
    ]
    pinned = [request for request in some if b'"stop":["~~~"]' in request.body]
    assert 0.2 < len(pinned) / 400 < 0.4
    assert [request.expected for request in some] == [request.expected for request in free]
    assert not any("~~~" in request.expected.text for request in some)


def test_the_seed_decides_every_byte() -> None:
    first, again, other = (
        make_request(arrival(7), model="demo", seed=seed).prompt for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_prompts_share_what_the_trace_says_they_share() -> None:
    requests = [
        make_request(arrival(index, 1200, 5, blocks), model="demo", seed=1)
        for index, blocks in enumerate([(1, 2, 3), (1, 2, 4), (9, 2, 3)] * 10)
    ]
    one, two, three = (
        next(request.prompt for request in requests[place::3] if request.kind is not Kind.CHAT)
        for place in range(3)
    )
    assert one[:1024] == two[:1024]
    assert one[1024:] != two[1024:]
    assert one[:512] != three[:512]
