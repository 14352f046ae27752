"""Work in several processes: complete, in the right places, and over when it is over."""

import multiprocessing

import pytest

from cascade_cli.parallel import default_jobs, in_processes
from tests.cli.work import endless_from_two, failing, squared


@pytest.mark.parametrize("jobs", [1, 2], ids=["here", "in two processes"])
def test_every_item_is_answered_at_its_position(jobs: int) -> None:
    assert dict(in_processes(squared, [5, 6, 7], jobs)) == {0: 25, 1: 36, 2: 49}


def test_an_error_reaches_the_caller_and_ends_the_processes() -> None:
    with pytest.raises(ValueError, match="three is refused"):
        list(in_processes(failing, range(8), jobs=2))

    assert not multiprocessing.active_children()


def test_closing_early_ends_processes_that_would_never_end() -> None:
    results = in_processes(endless_from_two, [1, 2, 3], jobs=2)
    assert next(results) == (0, 1)

    results.close()

    assert not multiprocessing.active_children()


def test_there_is_always_a_job() -> None:
    assert default_jobs() >= 1
