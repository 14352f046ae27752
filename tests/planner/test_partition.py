"""The partition record."""

import pytest

from cascade_planner.partition import Partition


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        pytest.param(((64,), (4,)), ((64,), (4,)), 0, id="nothing moves to the same partition"),
        pytest.param(((8, 64), (2, 2)), ((16, 64), (2, 2)), 0, id="a boundary moves no instance"),
        pytest.param(((8, 64), (3, 1)), ((8, 64), (1, 3)), 2, id="instances move between stages"),
        pytest.param(((64,), (4,)), ((8, 64), (3, 1)), 1, id="a new stage is filled by moves"),
        pytest.param(((8, 64), (3, 1)), ((64,), (4,)), 1, id="a stage that goes is emptied"),
        pytest.param(((64,), (4,)), ((64,), (6,)), 2, id="an added instance counts"),
    ],
)
def test_moves(
    before: tuple[tuple[int, ...], tuple[int, ...]],
    after: tuple[tuple[int, ...], tuple[int, ...]],
    moves: int,
) -> None:
    assert Partition(*before).moves_to(Partition(*after)) == moves


def test_ids_are_stable_and_tell_boundaries_and_counts_apart() -> None:
    partition = Partition((1024, 16384), (5, 3))
    assert partition.id == Partition((1024, 16384), (5, 3)).id == "16346db333"
    assert partition.id != Partition((1024, 16384), (3, 5)).id
    assert partition.id != Partition((512, 16384), (5, 3)).id


@pytest.mark.parametrize(
    ("ends", "instances"),
    [
        pytest.param((), (), id="no stage"),
        pytest.param((8, 16), (1,), id="a stage without a count"),
        pytest.param((16, 8), (1, 1), id="descending ends"),
        pytest.param((8, 8), (1, 1), id="an empty range"),
        pytest.param((8, 16), (1, 0), id="a stage without an instance"),
    ],
)
def test_a_partition_refuses(ends: tuple[int, ...], instances: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="stage"):
        Partition(ends, instances)
