"""Values of options, and what is said about those that mean nothing."""

import argparse
from collections.abc import Callable
from typing import Any

import pytest

from cascade_cli import values
from cascade_planner.objective import RECOMPUTE, Crossing


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (values.positive_int, "16", 16),
        (values.positive_float, "0.5", 0.5),
        (values.not_negative, "0", 0.0),
        (values.duration, "90", 90),
        (values.duration, "15m", 900),
        (values.duration, "6h", 21_600),
        (values.duration, "1w", 604_800),
        (values.boundaries, "1024", (1024,)),
        (values.boundaries, "724, 8192", (724, 8192)),
        (values.transport, "recompute", RECOMPUTE),
        (values.transport, "copy:25", Crossing(copy_bytes_per_ms=25e6, fixed_ms=5.0)),
        (values.header, "X-Scope-OrgID: team:a", ("X-Scope-OrgID", "team:a")),
    ],
)
def test_what_an_option_means(parse: Callable[[str], Any], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (values.positive_int, "0", "no whole number above 0"),
        (values.positive_int, "1.5", "no whole number above 0"),
        (values.positive_float, "nan", "no number above 0"),
        (values.positive_float, "inf", "no number above 0"),
        (values.positive_float, "-1", "no number above 0"),
        (values.not_negative, "-1", "no number of at least 0"),
        (values.not_negative, "nan", "no number of at least 0"),
        (values.duration, "0s", "no time; write 90s"),
        (values.duration, "1.5h", "no time; write 90s"),
        (values.duration, "soon", "no time; write 90s"),
        (values.boundaries, "8192,724", "ascend"),
        (values.boundaries, "724,724", "ascend"),
        (values.boundaries, "0,724", "ascend"),
        (values.boundaries, "", "ascend"),
        (values.transport, "copy", "write recompute, or copy:25"),
        (values.transport, "copy:0", "write recompute, or copy:25"),
        (values.transport, "pigeon:5", "write recompute, or copy:25"),
    ],
)
def test_what_means_nothing_is_answered_with_an_example(
    parse: Callable[[str], Any], text: str, words: str
) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        parse(text)


@pytest.mark.parametrize("text", ["secret", "A b: secret", "A: secret\nB: x", "A: sécret→", ": x"])
def test_a_header_that_is_none_is_not_repeated(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="'Name: value'") as caught:
        values.header(text)
    assert "cret" not in str(caught.value)
