"""Reads traffic from Prometheus, off the event loop, because its client is synchronous."""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

from cascade_operator import queries
from cascade_operator.answer import NotPrometheus, Row
from cascade_operator.connection import Connection, connection_to
from cascade_operator.faults import told, too_slow
from cascade_operator.line import Line
from cascade_operator.traffic import Latency, Reading
from cascade_planner.histogram import MAX_RATE, LengthHistogram

_READING: Final = 3.0
"""Limit of one reading, all queries and the wait for a thread included, as a multiple of the limit
of one answer."""
_THREADS: Final = 8
_THREADS_OF_NAMESPACE: Final = 2

T = TypeVar("T")


class TrafficReader(Protocol):
    """Where traffic comes from."""

    async def read(self, url: str, namespace: str, service: str, window_seconds: int) -> Reading:
        """The traffic of one service over the last `window_seconds`. Raises PrometheusError."""


class PrometheusReader:
    """TrafficReader over the HTTP API of Prometheus.

    It has threads of its own, so that a Prometheus that hangs keeps nothing else waiting; and
    other ones for each namespace whose users chose an address, so that theirs keeps neither the
    operator's waiting nor that of another namespace.
    """

    def __init__(self, operator_wide: Connection | None = None) -> None:
        self._operator_wide = operator_wide
        self._own = ThreadPoolExecutor(_THREADS, thread_name_prefix="prometheus")
        self._others: dict[str, ThreadPoolExecutor] = {}

    async def read(self, url: str, namespace: str, service: str, window_seconds: int) -> Reading:
        connection = connection_to(url, self._operator_wide)
        threads = self._own if connection.operator_wide else self._threads_of(namespace)
        limit = connection.timeout_seconds * _READING
        try:
            async with asyncio.timeout(limit):
                line = await _in(threads, lambda: _open(connection))
                try:
                    return await _read(
                        line, threads, connection, namespace, service, window_seconds
                    )
                finally:
                    line.hang_up()
        except TimeoutError:
            raise too_slow(connection, limit) from None

    def close(self) -> None:
        """End the threads when they have nothing left to do. There must be no reading any more."""
        for threads in (self._own, *self._others.values()):
            threads.shutdown(wait=False)

    def _threads_of(self, namespace: str) -> ThreadPoolExecutor:
        if namespace not in self._others:
            self._others[namespace] = ThreadPoolExecutor(
                _THREADS_OF_NAMESPACE, thread_name_prefix=f"prometheus-of-{namespace}"
            )
        return self._others[namespace]


def _open(connection: Connection) -> Line:
    with told(connection):
        return Line(connection)


async def _read(
    line: Line,
    threads: ThreadPoolExecutor,
    connection: Connection,
    namespace: str,
    service: str,
    window_seconds: int,
) -> Reading:
    """The answers to all questions, each within its time."""

    async def ask(query: str, understand: Callable[[list[Row]], T]) -> T:
        def work() -> T:
            with told(connection):
                return _understood(line.ask(query), understand)

        try:
            async with asyncio.timeout(connection.timeout_seconds):
                return await _in(threads, work)
        except TimeoutError:
            raise too_slow(connection, connection.timeout_seconds) from None

    scope = queries.Scope(namespace, service, connection.labels)
    return Reading(
        prompts=await ask(queries.prompt_lengths(scope, window_seconds), _lengths),
        finals=await ask(queries.final_lengths(scope, window_seconds), _lengths),
        decoded=await ask(queries.decoded_lengths(scope, window_seconds), _decoded),
        age_seconds=await ask(queries.sample_age(scope), _age),
        series_of_targets=await ask(queries.series_of_targets(scope), _series),
        latency=_latency(
            await ask(queries.completed_seconds(scope, window_seconds), _rate),
            await ask(queries.completed_requests(scope, window_seconds), _rate),
            window_seconds,
        ),
    )


async def _in(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def _understood(rows: list[Row], understand: Callable[[list[Row]], T]) -> T:
    """What the rows say. Raises NotPrometheus where they have another form."""
    try:
        return understand(rows)
    except (ValueError, OverflowError):
        raise NotPrometheus from None


def _lengths(rows: list[Row]) -> LengthHistogram:
    return _histogram(rows, "le")


def _decoded(rows: list[Row]) -> LengthHistogram:
    return _histogram(rows, queries.DECODE_LABEL)


def _histogram(rows: list[Row], label: str) -> LengthHistogram:
    return LengthHistogram.of((row.metric.get(label, ""), row.value[1]) for row in rows)


def _age(rows: list[Row]) -> float:
    """Age of the newest sample; without any, infinite. Clocks may differ by a little."""
    ages = [_value(row) for row in rows]
    if any(math.isnan(age) for age in ages):
        raise ValueError("no age")
    return max(0.0, min(ages)) if ages else math.inf


def _series(rows: list[Row]) -> tuple[int, ...]:
    return tuple(sorted(int(_value(row)) for row in rows))


def _rate(rows: list[Row]) -> float:
    """Per second; 0 without a series."""
    return _value(rows[0]) if rows else 0.0


def _value(row: Row) -> float:
    return float(row.value[1])


def _latency(seconds: float, requests: float, window_seconds: int) -> Latency | None:
    """None where no request completed. Counters that were reset may give what is no time."""
    if not 0 < requests <= MAX_RATE:
        return None
    mean_ms = 1000 * seconds / requests
    return Latency(mean_ms, requests * window_seconds) if 0 < mean_ms < math.inf else None
