"""Llumnix: who is paired with whom, what moves, and when nothing does."""

import pytest

from cascade_policy.load import InstanceLoad
from cascade_simulator.policies.llumnix import THRESHOLD_BLOCKS, freeness
from cascade_simulator.policies.registry import make
from cascade_simulator.policy import Move, Transport
from tests.simulator.policies.scripted import ENGINE, Scripted, even, fleet, running, setup

FULL = even(40, 10_970)
NEARLY_FULL = even(40, 10_960)
HALF = even(20, 11_000)
FREE = even(4, 500)


def moves(
    policy: str, loads: list[InstanceLoad], decoding: dict[int, list[Scripted]]
) -> list[Move]:
    cluster = fleet(*loads)
    cluster.decoding, cluster.now_ms = decoding, 50.0
    return list(make(policy, setup(len(loads))).tick(cluster))


def test_freeness_is_free_blocks_per_request_and_negative_when_too_much_waits() -> None:
    assert freeness(even(10, 1000), ENGINE) == (440_000 - 10_000) / 16 / 10
    assert freeness(even(50, 10_000), ENGINE) < 0
    assert freeness(FULL, ENGINE) < THRESHOLD_BLOCKS < freeness(HALF, ENGINE)


def test_the_lowest_is_paired_with_the_highest_and_so_on_inwards() -> None:
    decoding = {
        0: [running(1, 900, 5, 0)],
        1: [running(2, 900, 5, 1)],
        2: [running(3, 900, 5, 2)],
        3: [running(4, 900, 5, 3)],
    }
    assert moves("llumnix", [NEARLY_FULL, FREE, FULL, HALF], decoding) == [
        Move(3, 1, Transport.COPY),
        Move(1, 3, Transport.COPY),
    ]


def test_the_shortest_running_sequence_moves_and_the_head_of_the_queue_before_it() -> None:
    cluster = fleet(FULL, FREE)
    cluster.decoding = {0: [running(1, 900, 5, 0), running(2, 300, 5, 0), running(3, 800, 5, 0)]}
    cluster.now_ms = 50.0
    policy = make("llumnix", setup(2))
    assert [move.id for move in policy.tick(cluster)] == [2]
    cluster.queued = {0: [running(9, 5000, 0, 0), running(10, 20, 0, 0)]}
    assert [move.id for move in make("llumnix", setup(2)).tick(cluster)] == [9]


def test_one_migration_at_a_time_for_each_pair() -> None:
    first = running(1, 300, 5, 0)
    cluster = fleet(FULL, FREE)
    cluster.decoding = {0: [first, running(2, 900, 5, 0)]}
    policy = make("llumnix", setup(2))
    cluster.now_ms = 50.0
    assert [move.id for move in policy.tick(cluster)] == [1]
    first.moving = True
    cluster.now_ms = 100.0
    assert list(policy.tick(cluster)) == []
    first.moving, cluster.decoding[0] = False, [running(2, 900, 5, 0)]
    cluster.now_ms = 150.0
    assert [move.id for move in policy.tick(cluster)] == [2]


@pytest.mark.parametrize(
    ("policy", "loads"),
    [
        pytest.param("llumnix", [HALF, FREE], id="defrag: while memory lasts nothing moves"),
        pytest.param("llumnix", [FULL, FULL], id="defrag: nobody can take"),
        pytest.param(
            "llumnix-balanced", [even(10, 500), even(10, 500)], id="balanced: nothing to even out"
        ),
        pytest.param(
            "llumnix-balanced",
            [even(2, 900), even(1, 900)],
            id="balanced: a move that would turn the pair around",
        ),
        pytest.param("llumnix-dispatch", [FULL, FREE], id="dispatch alone never moves"),
    ],
)
def test_nothing_moves(policy: str, loads: list[InstanceLoad]) -> None:
    decoding = {0: [running(1, 900, 5, 0)], 1: [running(2, 900, 5, 1)]}
    assert moves(policy, loads, decoding) == []


def test_balanced_moves_long_before_memory_runs_out() -> None:
    decoding = {0: [running(1, 900, 5, 0)], 1: [running(2, 900, 5, 1)]}
    loads = [even(20, 900), even(4, 900)]
    assert moves("llumnix-balanced", loads, decoding) == [Move(1, 1, Transport.COPY)]
