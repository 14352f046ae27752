"""What Prometheus answers: its rows, taken straight from bytes that anybody may have sent.

The address may be one that a user chose. As Python's own objects a MiB of `[],[],...` takes 30 MiB
and a third of a second in which nothing else of the operator runs; as these records, next to
nothing.
"""

from typing import Final

import msgspec

from cascade_prometheus.answers import AnswerError

MAX_BYTES: Final = 2**20
"""More than the buckets of any histogram, or 5,000 routers of one service. The rows of an answer
may take ten times as much."""


class NotPrometheus(AnswerError):
    """An answer that is not of the form of Prometheus' HTTP API."""


class QueryFailed(AnswerError):
    """An answer that says that the query failed."""


class Incomplete(AnswerError):
    """An answer that says that it may lack data."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One series of an answer."""

    metric: dict[str, str]
    value: tuple[float, str]
    """When (unix seconds), and the value as Prometheus writes it."""


class _Data(msgspec.Struct, frozen=True, gc=False):
    result: list[Row]


class _Answer(msgspec.Struct, frozen=True, gc=False):
    """What is read of an answer; the rest is passed over."""

    status: str = ""
    data: _Data | None = None
    # `warnings` is of Prometheus, Thanos and Mimir, `isPartial` of VictoriaMetrics. `infos`, about
    # the form of a query, are none of either.
    warnings: list[str] | None = None
    partial: bool = msgspec.field(name="isPartial", default=False)


_ANSWER: Final = msgspec.json.Decoder(_Answer)


def rows_of(content: bytes) -> list[Row]:
    """The rows of an answer with status 200. Raises NotPrometheus, QueryFailed, Incomplete."""
    try:
        answer = _ANSWER.decode(content)
    except (msgspec.DecodeError, RecursionError):
        raise NotPrometheus from None
    if answer.status == "error":
        raise QueryFailed
    if answer.status != "success" or answer.data is None:
        raise NotPrometheus
    if answer.warnings or answer.partial:
        raise Incomplete
    return answer.data.result
