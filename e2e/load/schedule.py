"""When each request of a slice of a trace is sent: the trace's bursts at another mean rate."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cascade_cli.traces import TraceRequest


class InvalidSlice(ValueError):
    """The slice of the trace is empty or lies outside; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to send. `index` is its place in the (repeated) trace."""

    at: float
    """Seconds after the start of the replay."""
    index: int
    request: TraceRequest


@dataclass(frozen=True, slots=True)
class Schedule:
    """All requests of one replay."""

    arrivals: tuple[Arrival, ...]
    time_factor: float
    """Seconds of the trace that pass in one second of the replay."""
    trace_seconds: float
    """Length of the slice on the trace's own clock."""
    laps: int
    """How often the trace was begun: 1 unless it is too short for the slice."""


def make_schedule(
    trace: Sequence[TraceRequest], *, rate: float, duration: float, offset: float = 0.0
) -> Schedule:
    """`rate * duration` requests from `offset` seconds into the trace, over `duration` seconds.

    One factor compresses (or stretches) all gaps, so the mean rate is `rate` requests per second
    and bursts stay bursts. A trace that ends too early begins again. Raises InvalidSlice.
    """
    if rate <= 0 or duration <= 0:
        raise InvalidSlice("the rate and the duration must be above 0")
    count = round(rate * duration)
    if count < 1:
        raise InvalidSlice(
            f"{rate:g} requests per second for {duration:g} s is no request: raise one of them"
        )
    first = next((place for place, row in enumerate(trace) if row.arrival >= offset), None)
    if first is None:
        raise InvalidSlice(
            f"offset {offset:g} s lies behind the end of the trace ({trace[-1].arrival:.0f} s)"
        )
    # One more than is sent: the slice ends where the next request would have come.
    rows = [_row(trace, place) for place in range(first, first + count + 1)]
    span = rows[-1].arrival - rows[0].arrival
    factor = span / duration
    arrivals = tuple(
        Arrival((row.arrival - rows[0].arrival) / factor if factor else 0.0, first + place, row)
        for place, row in enumerate(rows[:-1])
    )
    return Schedule(arrivals, factor, span, (first + count - 1) // len(trace) + 1)


def cut_answers(schedule: Schedule, most: int) -> Schedule:
    """The same arrivals with answers of at most `most` tokens."""
    arrivals = (
        replace(
            arrival,
            request=replace(
                arrival.request, output_tokens=min(arrival.request.output_tokens, most)
            ),
        )
        for arrival in schedule.arrivals
    )
    return replace(schedule, arrivals=tuple(arrivals))


def _row(trace: Sequence[TraceRequest], place: int) -> TraceRequest:
    lap, index = divmod(place, len(trace))
    if not lap:
        return trace[index]
    # Between two laps lies one mean gap.
    length = trace[-1].arrival * len(trace) / max(len(trace) - 1, 1)
    return replace(trace[index], arrival=trace[index].arrival + lap * length)
