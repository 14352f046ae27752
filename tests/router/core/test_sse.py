"""Byte searches in events: right for any text, and for any cut of the stream into reads."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_router import sse

AWKWARD = st.sampled_from(
    [
        ',"token_ids":[1]',
        '"',
        "\\",
        "\n\n",
        "\r\n",
        "data: [DONE]",
        "\u2028",
        "日本",
        "\\u00e9",
        "]}",
    ]
)
TEXT = st.lists(st.one_of(AWKWARD, st.text(max_size=5)), max_size=6).map("".join)
IDS = st.lists(st.integers(0, 200_000), max_size=5)


def completion(text: str, ids: list[int] | None, finish: str | None = None, **top: Any) -> bytes:
    """A completions chunk as vLLM writes it."""
    choice = {
        "index": 0, "text": text, "logprobs": None, "finish_reason": finish,
        "stop_reason": None, "prompt_token_ids": top.pop("prompt", None), "token_ids": ids,
    }  # fmt: skip
    data = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    whole = {**data, "choices": [choice], "usage": None, **top}
    return (
        b"data: "
        + json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
        + (b"\n\n")
    )


@given(TEXT, IDS)
def test_ids_are_found_whatever_the_text(text: str, ids: list[int]) -> None:
    event = completion(text, ids)
    member, first, end = sse.token_ids(event)
    assert json.loads(b"[" + event[first:end] + b"]") == ids
    assert sse.count_ids(event[first:end]) == len(ids)
    cut = event[:member] + event[end + 1 :]
    choice = json.loads(cut[6:])["choices"][0]
    assert "token_ids" not in choice
    assert choice["text"] == text


@given(TEXT)
def test_text_is_found_whatever_it_is(text: str) -> None:
    event = completion(text, [1], "stop")
    assert json.loads(sse.text_of(event)) == text
    assert sse.finish_of(event) == b'"stop"'
    assert sse.stop_reason_of(event) == b"null"
    span = sse.text_span(event)
    assert span is not None
    assert json.loads(b'"' + event[span[0] : span[1]] + b'"') == text


@given(TEXT, IDS)
def test_an_event_without_generated_ids_has_none(text: str, ids: list[int]) -> None:
    event = completion(text, None, prompt=ids)
    assert sse.token_ids(event) == (-1, -1, -1)
    _, first, end = sse.prompt_ids(event)
    assert json.loads(b"[" + event[first:end] + b"]") == ids


@given(st.lists(st.tuples(TEXT, IDS), max_size=6), st.data(), st.booleans())
def test_events_come_whole_from_any_reads(
    contents: list[tuple[str, list[int]]], data: st.DataObject, carriage_returns: bool
) -> None:
    events = [completion(text, ids) for text, ids in contents]
    wire = b"".join(events)
    if carriage_returns:
        wire = wire.replace(b"\n\n", b"\r\n\r\n")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    splitter = sse.EventSplitter(1 << 20)
    got: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        got += splitter.feed(wire[start:end])
    assert got == events
    assert splitter.rest == b""


def test_an_event_that_never_ends_is_refused() -> None:
    splitter = sse.EventSplitter(100)
    splitter.feed(b"data: " + b"x" * 50)
    with pytest.raises(sse.EventTooLarge):
        splitter.feed(b"x" * 60)


@given(TEXT, IDS, st.permutations(["id", "object", "created", "model", "choices", "usage"]))
def test_other_styles_of_json_are_brought_into_ours(
    text: str, ids: list[int], order: list[str]
) -> None:
    plain = completion(text, ids)
    data = json.loads(plain[6:])
    spaced = b"data: " + json.dumps({name: data[name] for name in order}).encode() + b"\n\n"
    assert json.loads(sse.normalised(spaced)[6:]) == data
    assert sse.is_compact(sse.normalised(spaced))
    first, end = sse.token_ids(sse.normalised(spaced))[1:]
    assert sse.count_ids(sse.normalised(spaced)[first:end]) == len(ids)


@given(st.lists(IDS, max_size=5))
def test_tokens_of_a_read_are_counted(ids: list[list[int]]) -> None:
    wire = b"".join(completion("a", some) for some in ids)
    assert sse.count_tokens(wire + sse.DONE_EVENT) == sum(map(len, ids))


def test_events_without_ids_count_as_one_token_each() -> None:
    wire = completion("a", None) * 3 + sse.DONE_EVENT
    assert sse.count_tokens(wire) == 3


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (b'{"usage":{"prompt_tokens":3,"total_tokens":7,"completion_tokens":4}}', (3, 4)),
        (b'{"usage": {"completion_tokens": 4, "prompt_tokens": 3}}', (3, 4)),
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"x":{"y":1}},"z":1}', (3, 4)),
        (b'{"usage":null}', None),
        (b"{}", None),
    ],
)
def test_usage_is_read_from_the_end_of_a_body(body: bytes, usage: tuple[int, int] | None) -> None:
    assert sse.usage_of(body) == usage


@given(st.lists(st.integers(0, 99999), max_size=40), st.integers(0, 50))
def test_the_last_ids_of_a_list(ids: list[int], count: int) -> None:
    raw = ",".join(map(str, ids)).encode()
    tail = sse.tail_ids(raw, count)
    got = [int(part) for part in tail.split(b",") if part]
    assert got == (ids[-count:] if count else [])
