"""Whatever is wrong with an answer is found, and nothing else."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_cli.traces import TraceRequest
from e2e.engine_simulator import sse
from e2e.engine_simulator.vocabulary import Detokeniser
from e2e.load.answer_check import AnswerCheck
from e2e.load.schedule import Arrival
from e2e.load.workload import Kind, LoadRequest, make_request

Events = list[dict[str, Any]]


def request_of(chat: bool) -> LoadRequest:
    """A streamed request with ids and usage."""
    row = TraceRequest(0.0, 60, 80)
    requests = (make_request(Arrival(0.0, n, row), model="m", seed=1) for n in range(1000))
    return next(
        request
        for request in requests
        if (request.kind is Kind.CHAT) == chat
        and request.stream
        and request.with_ids
        and request.with_usage
    )


REQUESTS = {chat: request_of(chat) for chat in (False, True)}


def events_of(request: LoadRequest) -> Events:
    """The right answer, one event per token."""
    chat = request.kind is Kind.CHAT
    detokeniser = Detokeniser(request.prompt)
    events: Events = []
    if chat:
        role = {"role": "assistant", "content": ""}
        events.append({"id": "x", "choices": [{"delta": role, "finish_reason": None}]})
        events[0]["prompt_token_ids"] = list(request.prompt)
    for number in request.expected.ids:
        text = detokeniser.step(number)
        choice: dict[str, Any] = {"delta": {"content": text}} if chat else {"text": text}
        choice |= {"token_ids": [number], "finish_reason": None}
        events.append({"id": "x", "choices": [choice]})
    events[-1]["choices"][0]["finish_reason"] = "length"
    usage = {"prompt_tokens": len(request.prompt), "completion_tokens": 80}
    return [*events, {"id": "x", "choices": [], "usage": usage}]


def body_of(events: Events) -> bytes:
    return b"".join(b"data: " + sse.json_bytes(event) + b"\n\n" for event in events) + sse.DONE


def checked(request: LoadRequest, body: bytes, *cuts: int) -> AnswerCheck:
    check = AnswerCheck(request)
    places = [0, *sorted(cuts), len(body)]
    for now, (start, end) in enumerate(pairwise(places), start=1):
        check.feed(body[start:end], float(now))
    check.finish(99.0)
    return check


@given(st.booleans(), st.lists(st.integers(0, 10_000), max_size=6))
def test_a_right_answer_is_right_however_it_is_cut_into_pieces(chat: bool, cuts: list[int]) -> None:
    body = body_of(events_of(REQUESTS[chat]))
    check = checked(REQUESTS[chat], body, *(cut % len(body) for cut in cuts))
    assert (check.difference, check.error, check.done) == (None, None, True)


def lose(events: Events) -> None:
    del events[30]


def double(events: Events) -> None:
    events.insert(30, events[30])


def second_role(events: Events) -> None:
    events[30]["choices"][0].setdefault("delta", {})["role"] = "assistant"


def another_id(events: Events) -> None:
    events[30]["id"] = "y"


def wrong_usage(events: Events) -> None:
    events[-1]["usage"]["completion_tokens"] = 79


def no_usage(events: Events) -> None:
    del events[-1]


def wrong_reason(events: Events) -> None:
    events[-2]["choices"][0]["finish_reason"] = "stop"


def stale_ids(events: Events) -> None:
    events[30]["choices"][0]["token_ids"] = [5]


def cut_short(events: Events) -> None:
    del events[-10:-2]


def changed_text(events: Events) -> None:
    choice = events[40]["choices"][0]
    choice.get("delta", choice)["content" if "delta" in choice else "text"] = " wrong"


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lose, {"text", "ids"}),
        (double, {"text", "ids"}),
        (another_id, {"id"}),
        (wrong_usage, {"usage"}),
        (no_usage, {"usage"}),
        (wrong_reason, {"finish reason"}),
        (stale_ids, {"ids"}),
        (cut_short, {"text", "ids", "length"}),
        (changed_text, {"text"}),
    ],
)
def test_every_damage_is_seen(chat: bool, damage: Callable[[Events], None], what: set[str]) -> None:
    events = json.loads(json.dumps(events_of(REQUESTS[chat])))
    damage(events)
    check = checked(REQUESTS[chat], body_of(events))
    assert check.difference is not None
    assert check.difference.what in what


def test_a_second_role_in_a_chat_is_seen() -> None:
    events = json.loads(json.dumps(events_of(REQUESTS[True])))
    second_role(events)
    check = checked(REQUESTS[True], body_of(events))
    assert check.difference is not None
    assert check.difference.what == "role"


def test_hand_overs_are_counted_and_other_comments_are_not() -> None:
    request = REQUESTS[False]
    head, tail = body_of(events_of(request)[:5]), body_of(events_of(request)[5:])
    comments = (
        b": keep-alive\n\n: cascade handover 1 stage 0->1\n\n: cascade handover 2 stage 1->1\n\n"
    )
    check = checked(request, head.removesuffix(sse.DONE) + comments + tail)
    assert (check.handovers, check.handovers_up) == (2, 1)
    assert check.difference is None


def test_an_error_event_and_a_missing_end_are_no_differences() -> None:
    request = REQUESTS[False]
    failed = checked(request, b'data: {"error":{"message":"engine gone"}}\n\n' + sse.DONE)
    assert failed.error is not None
    assert "engine gone" in failed.error
    cut = checked(request, body_of(events_of(request)[:5]).removesuffix(sse.DONE))
    assert (cut.done, cut.difference) == (False, None)


def test_token_times_are_those_of_the_first_and_last_event_with_a_token() -> None:
    request = REQUESTS[True]
    events = events_of(request)
    role = len(b"data: " + sse.json_bytes(events[0]) + b"\n\n")
    body = body_of(events)
    check = checked(request, body, role, len(body) - len(sse.DONE) - 10)
    assert (check.first_token, check.last_token) == (2.0, 2.0)
