"""The bench of hand-overs: its gaps, and how they are judged."""

import json
from dataclasses import replace
from typing import Any

import pytest

from e2e.bench.handover_bench.__main__ import Figures, claims, figures_of
from e2e.bench.handover_bench.gaps import Gaps, _Stream

WARM = Figures(48, 0, 0, 48, 28.0, 43.0, 84.0)
RECOMPUTE = replace(WARM, gap_p50=437.0, gap_p99=472.0)


def event(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"text": text}]}).encode() + b"\n\n"


def test_the_gap_after_the_comment_of_a_hand_over_is_told_from_the_others() -> None:
    gaps = Gaps()
    stream = _Stream(gaps)
    stream.take(event("a"), 1.0)
    stream.take(event("b") + b": handed", 1.5)
    stream.take(b" over\n\n" + event(""), 2.0)
    stream.take(event("c"), 3.0)
    stream.take(event("d"), 3.25)
    assert (gaps.usual, gaps.at_handover, stream.text) == ([0.5, 0.25], [1.5], "abcd")
    figures = figures_of(replace(gaps, streams=1))
    assert (figures.handovers, figures.usual_p50, figures.gap_p50) == (1, 375.0, 1500.0)


def test_what_was_promised_holds() -> None:
    assert all(holds for _, holds in claims(WARM, RECOMPUTE))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"lost": 1}, id="a stream is lost"),
        pytest.param({"handovers": 3}, id="hardly any is handed over"),
        pytest.param({"gap_p50": 300.0}, id="warm is hardly better"),
    ],
)
def test_a_broken_promise_is_told(change: dict[str, Any]) -> None:
    assert sum(not holds for _, holds in claims(replace(WARM, **change), RECOMPUTE)) == 1
