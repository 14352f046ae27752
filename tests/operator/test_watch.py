"""How kopf is set up."""

from collections.abc import Iterable
from itertools import islice

from cascade_operator.watch import _settings


def test_a_watch_that_is_refused_is_tried_without_end() -> None:
    pauses = _settings().networking.error_backoffs
    assert isinstance(pauses, Iterable)
    assert len(list(islice(pauses, 1000))) == 1000
    assert max(islice(pauses, 1000)) <= 10
