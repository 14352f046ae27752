"""The overload bench: its requests, and how its figures are judged."""

from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from e2e.bench.overload_bench.drive import Client, Seen
from e2e.bench.overload_bench.figures import Figures, claims, figures_of
from e2e.bench.overload_bench.requests import Request, Shape, requests, served_per_second


def client(number: int, *, prompt: int = 100, first: float = 1.0, told: int = 0) -> Client:
    return Client(
        Request(number, 0.0, prompt, 10),
        first=first,
        whole=first + 1,
        told=[2.0] * told,
        waited_in_queue=first - 2.0 * told,
        right=True,
    )


def test_requests_come_at_the_factor_times_what_can_be_served() -> None:
    shape = Shape(factor=2.0, seconds=200.0)
    offered = requests(shape)
    one = served_per_second([(request.prompt, request.output) for request in offered])
    assert len(offered) / shape.seconds == pytest.approx(2.0 * shape.instances * one, rel=0.1)
    assert fmean(request.prompt for request in offered) > shape.median_prompt
    assert requests(shape) == offered


def test_the_longest_tenth_is_told_from_all() -> None:
    clients = [client(number) for number in range(90)]
    clients += [client(number, prompt=5000, first=9.0) for number in range(90, 100)]
    figures = figures_of(Seen(clients, preemptions=3))
    assert (figures.wait_p50, figures.longest_p99, figures.preemptions) == (1.0, 9.0, 3)
    assert figures.whole_mean == pytest.approx(2.8)


def test_tries_are_counted_of_those_turned_away_alone() -> None:
    lost = Client(Request(9, 0.0, 100, 10), fault="no connection", told=[3.0])
    figures = figures_of(Seen([client(0), client(1, first=5.0, told=2), lost], preemptions=0))
    assert (figures.turned_away, figures.tries_mean, figures.lost) == (3, 3.0, 1)
    assert figures.queue_p99 == 1.0


GOOD = Figures(100, 0, 0, 0, 1.0, 10.0, 11.0, 5.0, 0, 0.0, 0.0, 10.0)
WAYS = {
    "ours": GOOD,
    "bounded": replace(GOOD, turned_away=9, tries_mean=2.0, queue_p99=3.0),
    "alone": replace(GOOD, preemptions=50),
}


def test_what_was_promised_holds() -> None:
    assert all(holds for _, holds in claims(WAYS))


@pytest.mark.parametrize(
    ("way", "change"),
    [
        pytest.param("ours", {"lost": 1}, id="a request is lost"),
        pytest.param("bounded", {"wrong": 1}, id="a request is wrong"),
        pytest.param("ours", {"preemptions": 1}, id="an engine preempts"),
        pytest.param("alone", {"preemptions": 0}, id="the load would not have preempted"),
        pytest.param("ours", {"longest_p99": 16.0}, id="long prompts starve"),
        pytest.param("bounded", {"turned_away": 0}, id="nobody is turned away"),
        pytest.param("bounded", {"tries_mean": 9.0}, id="Retry-After is too short"),
    ],
)
def test_a_broken_promise_is_told(way: str, change: dict[str, Any]) -> None:
    judged = claims({**WAYS, way: replace(WAYS[way], **change)})
    assert sum(not holds for _, holds in judged) == 1
