"""The client's stream over several legs, without sockets: bytes in, bytes out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_policy.pins import Pin
from cascade_router.held import SeamTexts
from cascade_router.resumable import ResumableStream
from tests.router.core.test_sse import TEXT, completion

LIMIT = 1 << 20


def chat_chunk(delta: dict[str, Any], ids: list[int] | None, finish: str | None = None) -> bytes:
    """A chat chunk as vLLM writes it."""
    choice = {
        "index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, "token_ids": ids
    }  # fmt: skip
    data = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return (
        b"data: "
        + json.dumps({**data, "choices": [choice]}, separators=(",", ":")).encode()
        + b"\n\n"
    )


def role_chunk(prompt: list[int]) -> bytes:
    """The chunk that opens a chat."""
    opening = chat_chunk({"role": "assistant", "content": ""}, None)
    return opening[:-3] + b',"prompt_token_ids":' + json.dumps(prompt).encode() + b"}\n\n"


def new(chat: bool = False, wants_ids: bool = False, wants_usage: bool = False) -> ResumableStream:
    """A stream at the beginning of its first leg."""
    stream = ResumableStream(
        chat=chat, wants_ids=wants_ids, wants_usage=wants_usage, event_limit=LIMIT
    )
    stream.begin_leg()
    return stream


def left(stream: ResumableStream) -> bool:
    """Whether the place to leave is reached (asked anew at every call)."""
    return stream.cut


def events_of(data: bytes) -> list[Any]:
    """The JSON of events."""
    return [json.loads(part[6:]) for part in data.split(b"\n\n") if part.startswith(b"data: {")]


@given(st.lists(TEXT.filter(bool), min_size=1, max_size=12), st.booleans())
def test_text_passes_unchanged_and_ids_are_kept(texts: list[str], wants_ids: bool) -> None:
    stream = new(wants_ids=wants_ids)
    out = b""
    for number, text in enumerate(texts):
        prompt = [1, 2, 3] if number == 0 else None
        out += stream.feed(completion(text, [100 + number], prompt=prompt))
    got = events_of(out)
    assert "".join(event["choices"][0]["text"] for event in got) == "".join(texts)
    assert stream.ids() == b"1, 2, 3,".replace(b" ", b"") + b",".join(
        b"%d" % (100 + number) for number in range(len(texts))
    )
    ids = [event["choices"][0].get("token_ids") for event in got]
    assert ids == ([[100 + n] for n in range(len(texts))] if wants_ids else [None] * len(texts))


def test_a_clean_point_is_one_id_with_complete_text() -> None:
    stream = new()
    stream.feed(completion("a", [10], prompt=[1]))
    stream.leave(within=16)
    for held in (
        completion("", [11]),
        completion("bc", [12, 13]),
        completion("\ufffd", [14]),
        completion("", []),
    ):
        stream.feed(held)
        assert not left(stream)
    out = stream.feed(completion("d", [15]) + completion("never", [16]))
    assert left(stream)
    assert [event["choices"][0]["text"] for event in events_of(out)] == ["d"]
    assert stream.ids() == b"1,10,11,12,13,14,15"


def test_without_a_clean_point_the_leg_is_left_after_the_wait() -> None:
    stream = new()
    stream.feed(completion("a", [10], prompt=[1]))
    stream.leave(within=4)
    stream.feed(completion("bc", [11, 12]))
    assert not left(stream)
    stream.feed(completion("de", [13, 14]))
    assert left(stream)


def test_a_leg_whose_end_is_already_here_is_not_left() -> None:
    stream = new()
    stream.feed(completion("a", [10], prompt=[1]))
    stream.leave(within=4)
    out = stream.feed(completion("b", [11]) + completion("c", [12], "length") + b"data: [DONE]\n\n")
    assert not left(stream)
    assert stream.complete
    assert [event["choices"][0]["text"] for event in events_of(out)] == ["b", "c"]


def test_ids_that_the_client_knows_nothing_of_are_dropped_after_a_loss() -> None:
    stream = new()
    stream.feed(completion("a", [10], prompt=[1]) + completion("", [11]) + completion("", [12]))
    stream.settle()
    assert (stream.ids(), stream.tokens) == (b"1,10", 1)
    assert not stream.joinable


@pytest.mark.parametrize("wants_ids", [True, False])
def test_a_seam_is_joined_with_the_detokenisers_text(wants_ids: bool) -> None:
    stream = new(wants_ids=wants_ids)
    stream.feed(completion("a", [10], prompt=[1, 2]) + completion("bc", [11, 12]))
    stream.feed(completion("", [13]))
    stream.settle()
    assert stream.ids() == b"1,2,10,11,12,13"
    stream.begin_leg()
    assert stream.feed(completion("", [14], prompt=[1, 2, 10])) == b""
    assert stream.seam() is None
    assert stream.feed(completion("LEAKED PROMPT..abcdef", [15, 16]) + completion("z", [17])) == b""
    assert stream.joinable
    seam = stream.seam()
    assert seam is not None
    assert (seam.anchor, seam.before) == (b"1,2,10", b"1,2,10,11,12,13")
    assert seam.ids == b"1,2,10,11,12,13,14,15,16"
    out = events_of(stream.join(SeamTexts("..a", "..abc\ufffd", "..abcdef")))
    assert [event["choices"][0]["text"] for event in out] == ["def", "z"]
    ids = [event["choices"][0].get("token_ids") for event in out]
    assert ids == ([[14, 15, 16], [17]] if wants_ids else [None, None])
    assert stream.ids() == b"1,2,10,11,12,13,14,15,16,17"


def seam_after(first_of_leg: bytes) -> ResumableStream:
    """A stream whose second leg began after two ids of one event, and brought this."""
    stream = new()
    stream.feed(completion("a", [10], prompt=[1]) + completion("bc", [11, 12]))
    stream.settle()
    stream.begin_leg()
    assert stream.feed(first_of_leg) == b""
    return stream


def texts_of(data: bytes) -> list[str]:
    """The texts of completions events."""
    return [event["choices"][0]["text"] for event in events_of(data)]


def test_what_an_engine_holds_back_at_a_seam_comes_once() -> None:
    """The id 14 ends inside a character: its engine gives it out with the next one, as a whole."""
    stream = seam_after(completion("d", [13, 14]))
    assert texts_of(stream.join(SeamTexts("a", "abc", "abcd caf\ufffd"))) == ["d"]
    assert texts_of(stream.feed(completion(" café", [15]))) == [" café"]


def test_what_an_engine_holds_back_at_the_end_never_comes() -> None:
    stream = seam_after(completion("", [13], "length"))
    assert texts_of(stream.join(SeamTexts("a", "abc", "abc caf\ufffd"))) == [""]


def test_a_leg_that_is_lost_after_a_seam_that_is_not_clean_leads_to_another_seam() -> None:
    stream = seam_after(completion("d", [13, 14]))
    stream.join(SeamTexts("a", "abc", "abcd caf\ufffd"))
    stream.settle()
    stream.begin_leg()
    assert stream.feed(completion("a whole prompt: abcd café", [15])) == b""
    texts = SeamTexts("a", "abcd caf\ufffd", "abcd café")
    assert texts_of(stream.join(texts)) == [" café"]


def test_a_prompt_that_ends_inside_a_character_comes_out_once() -> None:
    """The first leg began with the text of the whole prompt; so does the next one."""
    stream = new()
    stream.feed(completion("prompt é b", [10, 11], prompt=[1, 2]))
    stream.settle()
    stream.begin_leg()
    stream.feed(completion("c", [12]))
    texts = SeamTexts("prompt \ufffd", "prompt é b", "prompt é bc")
    assert texts_of(stream.join(texts)) == ["c"]


def test_a_seam_that_contradicts_what_was_shown_is_a_loss() -> None:
    stream = new()
    stream.feed(completion("a", [10], prompt=[1, 2]) + completion("bc", [11, 12]))
    stream.settle()
    stream.begin_leg()
    stream.feed(completion("d", [13]))
    assert stream.join(SeamTexts("..a", "..aXY", "..aXYd")) == b""
    assert stream.lost is not None


def test_a_chat_is_rewrapped_in_the_shape_of_its_first_leg() -> None:
    stream = new(chat=True, wants_usage=True)
    out = stream.feed(role_chunk([1, 2]) + chat_chunk({"content": "a"}, [10]))
    assert b'token_ids":[' not in out
    stream.begin_leg()
    out = stream.feed(
        completion('b"', [11], prompt=[1, 2, 10]) + completion("", [12], "stop")
        + b'data: {"id":"x","object":"y","choices":[],"usage":{"prompt_tokens":9}}\n\n'
        + b"data: [DONE]\n\n"
    )  # fmt: skip
    first, last, usage = events_of(out)
    assert {event["id"] for event in (first, last, usage)} == {"chatcmpl-1"}
    assert {event["object"] for event in (first, last, usage)} == {"chat.completion.chunk"}
    assert first["choices"][0]["delta"] == {"content": 'b"'}
    assert last["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert stream.complete


NAMED = b',"system_fingerprint":"vllm-0.32.0-5e"}\n\n'


@pytest.mark.parametrize("chat", [True, False])
def test_the_last_event_names_the_engine_after_a_hand_over_as_well(chat: bool) -> None:
    stream = new(chat=chat)
    first = chat_chunk({"content": "a"}, [10]) if chat else completion("a", [10], prompt=[1])
    stream.feed((role_chunk([1]) if chat else b"") + first)
    stream.begin_leg()
    out = stream.feed(completion("b", [11], prompt=[1, 10]))
    out += stream.feed(completion("c", [12], "stop").replace(b"}\n\n", NAMED))
    names = [event.get("system_fingerprint") for event in events_of(out)]
    assert names == [None, "vllm-0.32.0-5e"]


def test_the_usage_names_the_engine_after_a_hand_over_as_well() -> None:
    stream = new(wants_usage=True)
    stream.feed(completion("a", [10], prompt=[1]))
    stream.begin_leg()
    stream.feed(completion("b", [11], "stop", prompt=[1, 10]))
    counted = b'data: {"id":"x","object":"y","choices":[],"usage":{"prompt_tokens":2}' + NAMED
    (event,) = events_of(stream.feed(counted))
    assert event["system_fingerprint"] == "vllm-0.32.0-5e"
    assert event["usage"]["total_tokens"] == 3


def test_text_that_looks_like_an_engines_name_is_not_taken_for_one() -> None:
    stream = new(chat=True)
    stream.feed(role_chunk([1]) + chat_chunk({"content": "a"}, [10]))
    stream.begin_leg()
    text = ',"system_fingerprint":"no"'
    (event,) = events_of(stream.feed(completion(text, [11], "stop", prompt=[1, 10])))
    assert event["choices"][0]["delta"]["content"] == text
    assert "system_fingerprint" not in event


def test_empty_deltas_that_exist_for_their_ids_only_are_dropped() -> None:
    stream = new(chat=True)
    stream.feed(role_chunk([1]))
    assert stream.feed(chat_chunk({"content": ""}, [10])) == b""
    assert stream.feed(chat_chunk({}, [11])) == b""
    assert stream.tokens == 2


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content", "tool_calls"])
def test_parts_that_a_parser_made_pin_the_stream_and_pass(key: str) -> None:
    stream = new(chat=True)
    stream.feed(role_chunk([1]))
    out = stream.feed(chat_chunk({key: "thinking"}, [10]))
    assert events_of(out)[0]["choices"][0]["delta"] == {key: "thinking"}
    assert stream.pin is Pin.PARSER
    assert not stream.resumable


def test_text_that_only_looks_like_a_parsers_part_does_not_pin() -> None:
    stream = new(chat=True)
    stream.feed(role_chunk([1]))
    stream.feed(chat_chunk({"content": '"reasoning":"no"'}, [10]))
    assert stream.pin is None


def test_an_engine_that_sends_no_ids_pins_the_stream() -> None:
    stream = new()
    event = completion("a", None)
    assert stream.feed(event) == event
    assert (stream.pin, stream.tokens) == (Pin.NO_IDS, 1)


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"message":"dead","code":500}}\n\n',
        completion("", [5], "abort"),
        completion("", [5], "error"),
    ],
)
def test_an_engine_that_gives_up_in_the_stream_counts_as_lost(event: bytes) -> None:
    stream = new()
    stream.feed(completion("a", [10], prompt=[1]))
    assert stream.feed(event) == b""
    assert stream.lost is not None
    assert not stream.complete


def test_comments_pass() -> None:
    stream = new()
    assert stream.feed(b": keep-alive\n\n") == b": keep-alive\n\n"


def test_a_leg_that_showed_nothing_is_begun_again_from_the_start() -> None:
    stream = new()
    stream.feed(completion("", [10], prompt=[1]))
    stream.begin_leg()
    assert (stream.leg, stream.tokens, stream.prompt) == (0, 0, None)


@pytest.mark.parametrize("chat", [True, False])
def test_a_stream_that_may_make_nothing_more_ends_by_length(chat: bool) -> None:
    stream = new(chat=chat, wants_usage=True)
    text = chat_chunk({"content": "a"}, [10]) if chat else completion("a", [10], prompt=[1])
    stream.feed((role_chunk([1]) if chat else b"") + text)
    last, usage = events_of(stream.ending())
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["usage"]["completion_tokens"] == 1
    assert stream.complete


@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("chat", [True, False])
def test_a_leg_that_is_lost_after_the_last_token_leaves_nothing_to_resume(
    chat: bool, reason: str
) -> None:
    stream = new(chat=chat, wants_usage=True)
    text = chat_chunk({"content": "a"}, [10]) if chat else completion("a", [10], prompt=[1])
    last = chat_chunk({"content": "b"}, [11], reason) if chat else completion("b", [11], reason)
    stream.feed((role_chunk([1]) if chat else b"") + text + last)
    stream.settle()
    assert stream.complete
    assert not stream.resumable
    rest = stream.ending()
    (counted,) = events_of(rest)
    assert counted["usage"]["completion_tokens"] == 2
    assert rest.endswith(b"data: [DONE]\n\n")
    assert stream.ending() == b""


def test_what_the_client_has_of_the_end_is_not_repeated() -> None:
    stream = new(wants_usage=True)
    usage = b'data: {"id":"x","object":"y","choices":[],"usage":{"prompt_tokens":9}}\n\n'
    stream.feed(completion("a", [10], "stop", prompt=[1]) + usage)
    assert stream.ending() == b"data: [DONE]\n\n"
