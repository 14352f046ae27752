"""The small service of processes starts, serves, follows its plan, and ends without remains."""

import json
from dataclasses import replace
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from cascade_policy.stage_map import Boundaries, StageMap
from e2e.engine_simulator.next_token import expected_output
from e2e.harness.deadline import until
from e2e.local_service.service import LocalService, ServiceFailed, ServicePlan, local_service

FAST = {"baseMs": 1.0, "perSequenceMs": 0.0, "perKvTokenMs": 0.0, "prefillMsPerToken": 0.001}


def hard(stage_map: StageMap) -> StageMap:
    return replace(stage_map, boundaries=Boundaries.HARD)


def complete(url: str) -> tuple[str, str]:
    """(text, stage) of a short completion."""
    body = {"model": "demo-model", "prompt": [300, 301, 302], "max_tokens": 8, "temperature": 0}
    request = Request(url + "/v1/completions", json.dumps(body).encode(), method="POST")
    with build_opener(ProxyHandler({})).open(request, timeout=20) as answer:
        return json.load(answer)["choices"][0]["text"], answer.headers["x-cascade-stage"]


def instance_stage(service: LocalService, stage: str) -> bool:
    return all(complete(url)[1] == stage for url in service.urls)


def test_a_local_service_serves_and_follows_moves_of_its_instances() -> None:
    patient = {"CASCADE_BID_DEADLINE_MS": "1000"}  # A late bid must not change who is chosen.
    plan = ServicePlan(
        stages=[0, 1],
        ends=[64],
        stage_map=hard,
        coefficients=FAST,
        router_environment=patient,
    )
    with local_service(plan) as service:
        want = expected_output([300, 301, 302], 8).text
        assert complete(service.urls[1]) == (want, "0")
        service.move(0, 1)
        until(
            "the short prompt goes to the stage that is left",
            lambda: instance_stage(service, "1"),
            seconds=20,
        )
        running = [*service.engines, *service.routers]
    assert all(process.process.poll() is not None for process in running)


def test_an_engine_that_cannot_start_is_named_with_its_words() -> None:
    plan = ServicePlan(engine_arguments=["--coalesce-percent", "101"])
    message = r"engine-0 ended with status 2[^$]*coalesce-percent"
    with pytest.raises(ServiceFailed, match=message), local_service(plan):
        pass
