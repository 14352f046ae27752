"""The reader of requests under random input: alike for every cut, and never beyond its limits."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.outcome import outcome, small_limits
from tests.fuzz.requests import conversation, cuts, mutated

EXAMPLES = 600
"""Some 10 s on one slow core."""


@settings(max_examples=EXAMPLES)
@given(st.data())
def test_requests_are_read_alike_however_they_are_cut(data: st.DataObject) -> None:
    wire = data.draw(conversation())
    places = data.draw(cuts(wire))
    with small_limits():
        assert outcome(wire) == outcome(wire, places) == outcome(wire, places, late=True)


@settings(max_examples=EXAMPLES // 2)
@given(st.binary(max_size=400), st.data())
@example(b"\x16\x03\x01", None)
def test_any_bytes_end_in_an_answer_or_a_close(wire: bytes, data: st.DataObject | None) -> None:
    places = range(len(wire)) if data is None else data.draw(cuts(wire))
    with small_limits():
        assert outcome(wire) == outcome(wire, places)


@settings(max_examples=EXAMPLES // 2)
@given(st.data())
def test_chunks_are_read_alike_however_they_are_cut(data: st.DataObject) -> None:
    head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    body = b"5;a=b\r\nhello\r\n0b\r\nhello\r\nworl\r\n0;c\r\nx-sum: 1\r\n\r\n"
    wire = head + data.draw(mutated(body)) + b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n"
    places = [len(head), *data.draw(cuts(wire))]
    with small_limits():
        assert outcome(wire) == outcome(wire, places)
