"""Whom to ask: the stage first, others as far as there is room for questions."""

from dataclasses import dataclass

import pytest

from cascade_policy.candidates import MAX_ASKED, NEIGHBOURS_ASKED, sample, whom_to_ask
from cascade_policy.stage_map import Boundaries

SOFT, HARD = Boundaries.SOFT, Boundaries.HARD


@dataclass(frozen=True)
class One:
    name: int
    stage: int
    tokens: int = 0


def pool(*counts: int) -> list[One]:
    """Stages of these sizes; the later an instance of a stage, the fuller it is."""
    return [
        One(100 * stage + n, stage, n) for stage, count in enumerate(counts) for n in range(count)
    ]


def asked(instances: list[One], stage: int, boundaries: Boundaries, draw: float = 0.0) -> list[int]:
    chosen = whom_to_ask(instances, stage, boundaries, lambda one: one.tokens, lambda: draw)
    return [one.name for one in chosen]


@pytest.mark.parametrize(
    ("counts", "stage", "boundaries", "names"),
    [
        pytest.param((2, 2), 0, HARD, [0, 1], id="hard: its stage alone"),
        pytest.param((2, 2), 0, SOFT, [0, 1, 100, 101], id="soft: a small pool is asked whole"),
        pytest.param((0, 2), 0, HARD, [100, 101], id="hard: an empty stage falls to the nearest"),
        pytest.param((1, 0, 1), 1, HARD, [200], id="hard: of two equally near the longer"),
        pytest.param(
            (1, 1, 1, 1), 1, SOFT, [100, 200, 0, 300], id="soft: the nearest stages come first"
        ),
        pytest.param((), 0, SOFT, [], id="nobody is there"),
    ],
)
def test_whom(
    counts: tuple[int, ...], stage: int, boundaries: Boundaries, names: list[int]
) -> None:
    assert asked(pool(*counts), stage, boundaries) == names


def test_of_a_large_neighbour_the_emptiest_fill_the_places_that_are_left() -> None:
    names = asked(pool(10, 10), 0, SOFT)
    assert names == [*range(10), *range(100, 100 + MAX_ASKED - 10)]


def test_neighbours_are_asked_even_when_the_stage_fills_all_places() -> None:
    names = asked(pool(20, 20, 20, 20), 1, SOFT)
    assert names[:MAX_ASKED] == [100 + n for n in range(MAX_ASKED)]
    assert names[MAX_ASKED:] == [200, 201, 0, 1]
    assert NEIGHBOURS_ASKED == 2


def test_a_sample_is_a_run_of_neighbours_from_a_random_place_on() -> None:
    assert sample([1, 2, 3], 3, lambda: 0.9) == [1, 2, 3]
    assert sample([1, 2, 3, 4], 2, lambda: 0.9) == [4, 1]
