"""Where instances are to be while not all of them can run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_operator.shortage import spread
from cascade_operator.snapshot import UNSCHEDULABLE, Pod, Trouble
from tests.operator.builders import pod, snapshot

NO_NODE = Trouble(UNSCHEDULABLE, "0/3 nodes are available")


def waiting(number: int, index: int) -> list[Pod]:
    return [
        pod(f"w{index}{i}", index, bound=False, ready=False, trouble=NO_NODE) for i in range(number)
    ]


def running(number: int, index: int) -> list[Pod]:
    return [pod(f"r{index}{i}", index) for i in range(number)]


CASES: dict[str, tuple[tuple[int, ...], list[Pod], tuple[int, ...]]] = {
    "all run": ((1, 5, 2), running(1, 0) + running(5, 1) + running(2, 2), (1, 5, 2)),
    "a stage whose instances all wait gets some that run": (
        (4, 4), running(4, 0) + waiting(4, 1), (2, 6),
    ),
    "it stays so when they have come": (
        (4, 4), running(2, 0) + running(2, 1) + waiting(4, 1), (2, 6),
    ),
    "those that wait everywhere are left where they are": (
        (4, 4), running(2, 0) + running(2, 1) + waiting(2, 0) + waiting(2, 1), (4, 4),
    ),
    "five of eight are shared out as the plan would be": (
        (1, 5, 2), running(5, 1) + waiting(1, 0) + waiting(2, 2), (2, 2, 4),
    ),
    "one that waits is worth no move": (
        (4, 4), running(3, 0) + waiting(1, 0) + running(4, 1), (4, 4),
    ),
    "unless it leaves its stage to nobody": (
        (1, 5, 2), waiting(1, 0) + running(5, 1) + running(2, 2), (2, 4, 2),
    ),
    "three of four that wait are": (
        (4, 4), running(4, 0) + running(1, 1) + waiting(3, 1), (3, 5),
    ),
    "fewer than there are stages stay where they are": (
        (1, 5, 2), running(2, 1) + waiting(1, 0) + waiting(3, 1) + waiting(2, 2), (1, 5, 2),
    ),
    "those beyond the declared number go first": (
        (3, 2), running(2, 0) + waiting(3, 0) + running(3, 1), (3, 2),
    ),
    "none runs": ((2, 2), waiting(2, 0) + waiting(2, 1), (2, 2)),
    "one that is being replaced is no shortage": ((2, 2), running(2, 0) + running(1, 1), (2, 2)),
    "one that waits outside the plan's stages is none of them": (
        (3,), running(2, 0) + waiting(1, 1), (3,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_those_that_run_share_out_the_plan(case: str) -> None:
    counts, pods, wanted = CASES[case]
    assert spread(counts, snapshot(*pods)) == wanted


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=5))
def test_the_sum_stays_and_every_stage_that_can_have_one_that_runs_has_one(
    stages: list[tuple[int, int]],
) -> None:
    counts = tuple(count for count, _ in stages)
    stuck = [min(count, number) for count, number in stages]
    pods = [one for i, number in enumerate(stuck) for one in waiting(number, i)]
    found = spread(counts, snapshot(*pods))
    assert sum(found) == sum(counts)
    if sum(counts) - sum(stuck) >= len(counts):
        assert all(size > number for size, number in zip(found, stuck, strict=True))
    else:
        assert found == counts
