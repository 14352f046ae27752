"""When the demo calls its own run a success, and what it tells scripts."""

from dataclasses import replace
from typing import Any

import pytest

from e2e.main_job.outcome import Outcome, Phase, change_percent


def phase(name: str, **counts: int) -> Phase:
    figures = {"mean": 100.0, "p50": 90.0, "p90": 150.0, "p99": 200.0}
    return Phase(
        name,
        {
            "requestsSent": 10,
            "requestsCompleted": 10,
            "requestsLost": 0,
            "retries": 0,
            "streamsCompared": 9,
            "streamsWrong": 0,
            "handovers": 1,
            "handoversToLongerStages": 1,
            **counts,
            "latency": dict.fromkeys(("ttft", "tpot", "e2e"), figures),
        },
    )


def stage(index: int) -> dict[str, Any]:
    return {"name": f"s{index}", "minLength": index, "maxLength": index, "instances": 1}


GOOD = Outcome(
    cluster="local",
    boundaries="soft",
    plan={"id": "p", "stages": [stage(0), stage(1)]},
    plan_message="two stages cost less than one",
    pods_moved=2,
    pods_restarted=0,
    move_seconds=1.0,
    before=phase("before", handovers=0, handoversToLongerStages=0),
    moving=phase("moving"),
    after=phase("after"),
    minutes=3.0,
    load={"requestsPerSecond": 9.0, "seconds": 40.0},
)

NOT_HANDED = phase("x", handoversToLongerStages=0)

FAILURES: dict[str, tuple[Outcome, str]] = {
    "a lost request": (replace(GOOD, after=phase("after", requestsLost=1)), "1 requests were lost"),
    "a request that never ended": (
        replace(GOOD, after=phase("after", requestsCompleted=9)),
        "only 29 of 30 requests completed",
    ),
    "a request that was turned away": (
        replace(GOOD, after=phase("after", retries=1)),
        "1 requests were turned away",
    ),
    "a wrong stream": (replace(GOOD, moving=phase("m", streamsWrong=2)), "2 streams differ"),
    "a restarted pod": (replace(GOOD, pods_restarted=1), "1 pods were restarted"),
    "one stage only": (replace(GOOD, plan={"stages": [stage(0)]}), "1 stage(s)"),
    "no move": (replace(GOOD, pods_moved=0), "no warm pod was moved"),
    "no hand-over": (
        replace(GOOD, before=NOT_HANDED, moving=NOT_HANDED, after=NOT_HANDED),
        "no request that outgrew its stage was handed over",
    ),
    "something the watch saw": (replace(GOOD, problems=("9 pods were bound",)), "9 pods"),
}


def test_a_run_in_which_all_went_well_has_no_failures() -> None:
    assert GOOD.failures() == []


@pytest.mark.parametrize("case", FAILURES)
def test_a_run_fails_for(case: str) -> None:
    outcome, words = FAILURES[case]

    assert len(outcome.failures()) == 1
    assert words in outcome.failures()[0]


def test_the_json_has_the_keys_that_scripts_rely_on() -> None:
    found = GOOD.to_json()

    assert {
        "cluster", "stages", "podsMoved", "podsRestarted", "requestsSent", "requestsCompleted",
        "requestsLost", "handovers", "streamsWrong", "latencyBefore", "latencyAfter", "minutes",
    } <= found.keys()  # fmt: skip
    assert (found["requestsSent"], found["handovers"]) == (30, 2)


def test_change_is_relative_to_before_and_negative_when_faster() -> None:
    assert change_percent({"mean": 200.0}, {"mean": 150.0}, "mean") == -25.0
