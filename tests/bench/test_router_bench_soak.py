"""Whether a long run is judged as it should be."""

from typing import Any

import pytest

from e2e.bench.router_bench.contestants import (
    FRONT,
    TARGET,
)
from e2e.bench.router_bench.endurance import Sample, growths
from e2e.bench.router_bench.soak import judged as soak_judged

LOST = "event lost, doubled or out of order"


def sample(seconds: float, rss: float, files: int) -> dict[str, Any]:
    """A line of the client."""
    one = {"rss_mb": rss, "pss_mb": rss, "open_files": files}
    return {"seconds": seconds, "memory": {FRONT: one, TARGET: one}}


END: dict[str, Any] = {
    "end": True,
    "seconds": 600,
    "before": sample(0, 70, 15)["memory"],
    "memory": sample(0, 90, 16)["memory"],
    "wrong": {},
    "lostStreams": 0,
    "events": 1000,
    "eventsSent": 1000,
}


def level(rise: float = 0.0, files: float = 0.0) -> list[dict[str, Any]]:
    """Samples of ten minutes that rise so much in each minute, after a warm-up that rises."""
    return [
        sample(s, 100 + min(s, 100) / 5 + rise * s / 60, 8000 + int(files * s / 60))
        for s in range(0, 600, 5)
    ]


@pytest.mark.parametrize(
    ("lines", "end", "words"),
    [
        pytest.param(level(), {}, "", id="a level run passes"),
        pytest.param(level(0.1), {}, "", id="less than the tolerance passes"),
        pytest.param(level(1.0), {}, "RSS of the front", id="a megabyte a minute is growth"),
        pytest.param(level(files=20), {}, "open files", id="twenty files a minute are growth"),
        pytest.param(level(), {"wrong": {LOST: 2}}, f"2 x {LOST}", id="a wrong event fails"),
        pytest.param(level(), {"lostStreams": 1}, "1 streams did not end", id="a lost one fails"),
        pytest.param(level(), {"events": 999}, "1000 events were sent, 999 came", id="a gap fails"),
        pytest.param(
            level(),
            {"memory": sample(0, 90, 80)["memory"]},
            "65 files more open",
            id="files left open fail",
        ),
        pytest.param(level()[:10], {}, "only 0 samples", id="too short a run fails"),
    ],
)
def test_a_long_run_is_judged(lines: list[dict[str, Any]], end: dict[str, Any], words: str) -> None:
    verdict, samples = soak_judged([*lines, {**END, **end}], warm_up=150)
    assert len(samples) == len(lines)
    assert verdict.passed == (not words)
    grown = [str(growth) for growth in verdict.growths if growth.grew]
    assert words in " ".join([*grown, *verdict.faults])


def test_a_client_that_breaks_off_fails_the_long_run() -> None:
    verdict, _ = soak_judged(level(), warm_up=150)
    assert verdict.faults == ["the client ended before its time"]


def test_growth_is_told_from_the_first_to_the_last_third_after_the_warm_up() -> None:
    samples = [Sample.from_json(line) for line in level(6.0)]
    front, *_ = growths(samples, [FRONT], warm_up=150)
    assert front.before == pytest.approx(120 + 6 * 222.5 / 60)
    assert front.after - front.before == pytest.approx(6 * 5, rel=0.01)
