"""What is taken for an answer of Prometheus, and what it costs to find out."""

import tracemalloc
from contextlib import suppress

import pytest

from cascade_operator.answer import MAX_BYTES, Incomplete, NotPrometheus, Row, rows_of

AT_MOST = 12
"""Bytes of memory for a byte of an answer; as Python's own objects it takes up to 50."""
ROUTER = '{"metric":{"instance":"10.244.100.100:8000","pod":"%s"},"value":[1764198000.123,"1"]}'


def answer(rows: str, more: str = "") -> bytes:
    return f'{{"status": "success", "data": {{"result": [{rows}]}}{more}}}'.encode()


def filled(unit: str) -> str:
    """As many of `unit` as an answer can hold."""
    return ",".join([unit] * ((MAX_BYTES - 100) // (len(unit) + 1)))


def test_rows_are_read_and_the_rest_is_passed_over() -> None:
    body = answer(
        '{"metric": {"le": "16", "x": "é"}, "value": [1, "NaN"], "y": {}}', ', "z": [[1]]'
    )
    assert rows_of(body) == [Row({"le": "16", "x": "é"}, (1.0, "NaN"))]
    assert rows_of(answer("")) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"internal-secret",
        b"\xff\xfe\x00",
        b"{}",
        b"[]",
        b"null",
        b'{"data": {"result": []}}',
        b'{"status": 3, "data": {"result": []}}',
        b'{"status": "success"}',
        b'{"status": "success", "data": null}',
        b'{"status": "success", "data": {"result": 3}}',
        b'{"status": "success", "data": {"result": {}}}',
        b'{"status": "success", "data": {"result": ""}}',
        answer("null"),
        answer("[]"),
        answer('{"value": [1, "2"]}'),
        answer('{"metric": {}}'),
        answer('{"metric": [], "value": [1, "2"]}'),
        answer('{"metric": {"le": ["1"]}, "value": [1, "2"]}'),
        answer('{"metric": {}, "value": []}'),
        answer('{"metric": {}, "value": "12"}'),
        answer('{"metric": {}, "value": [1, 2]}'),
        answer('{"metric": {}, "value": [1, null]}'),
        answer('{"metric": {}, "value": [NaN, "2"]}'),
        b"9" * 5000,
        b"[" * 100_000,
        answer("", ', "x": ' + "[" * 100_000),
    ],
)
def test_another_servers_answer_is_told_apart(body: bytes) -> None:
    with pytest.raises(NotPrometheus):
        rows_of(body)


def test_five_thousand_routers_fit_into_an_answer() -> None:
    body = answer(",".join([ROUTER % ("p" * 63)] * 5000))
    assert len(body) < MAX_BYTES
    assert len(rows_of(body)) == 5000


@pytest.mark.parametrize(
    "body",
    [
        answer(filled("[]")),
        answer(filled("{}")),
        answer("", f', "more": [{filled("[]")}]'),
        answer("", f', "warnings": [{filled(chr(34) * 2)}]'),
        answer(filled('{"metric":{},"value":[1,""]}')),
        answer(filled('{"metric":{"le":"1"},"value":[1,"1"]}')),
    ],
    ids=["lists", "objects", "what is passed over", "warnings", "smallest rows", "rows"],
)
def test_no_answer_fills_the_memory(body: bytes) -> None:
    """Also of a server that a user chose: several are read at a time, in a pod of 512 MiB."""
    assert len(body) <= MAX_BYTES
    tracemalloc.start()
    with suppress(NotPrometheus, Incomplete):
        rows_of(body)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < AT_MOST * MAX_BYTES
