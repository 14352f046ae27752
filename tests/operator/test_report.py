"""What is written of a pass, and over what."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast
from unittest.mock import create_autospec

import pytest

from cascade_operator.cluster import ClusterApi, ClusterError
from cascade_operator.kinds import Kind
from cascade_operator.moves import Step
from cascade_operator.report import Reporter
from tests.operator.builders import NOW, instances, resource, snapshot, stage
from tests.operator.test_status import observation

Json = Mapping[str, Any]


class Api:
    """Takes a status for one version of the CascadeService."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.status: Json | None = None
        self.events: list[str] = []

    async def apply_status(self, kind: Kind, namespace: str, manifest: Json, manager: str) -> Json:
        del kind, namespace, manager
        if manifest["metadata"].get("resourceVersion") != self.version:
            raise ClusterError(409, "Conflict", "the object has been modified")
        self.status = dict(manifest["status"])
        return manifest

    async def create(self, kind: Kind, namespace: str, manifest: Json) -> Json:
        del kind, namespace
        self.events.append(manifest["reason"])
        return manifest


@pytest.mark.parametrize(
    ("stored", "written"),
    [
        pytest.param("7", True, id="it is as it was read"),
        pytest.param("8", False, id="somebody has changed it since: the next pass says what holds"),
    ],
)
async def test_a_status_is_written_over_the_one_that_was_read(stored: str, written: bool) -> None:
    api = Api(stored)
    read = resource()
    read["metadata"]["resourceVersion"] = "7"
    reporter = Reporter(cast(ClusterApi, api), "operator-1")
    assert await reporter.report(read, observation(), NOW) is written
    assert (api.status is not None) is written
    assert bool(api.events) is written


async def test_while_things_move_the_status_follows_at_its_pace_whatever_the_clock_does() -> None:
    api = create_autospec(ClusterApi, instance=True)
    reporter = Reporter(api, "pod")
    seen = replace(observation(), step=Step(to_move=2))
    object_ = {**resource(), "status": {}}
    object_["metadata"]["resourceVersion"] = "7"
    moving = [
        replace(seen, snapshot=snapshot(stage(0, 4), stage(1, 4), *instances(ready, 0)))
        for ready in (1, 2, 3)
    ]
    assert await reporter.report(object_, moving[0], NOW)
    object_["status"] = api.apply_status.call_args.args[2]["status"]
    assert not await reporter.report(object_, moving[1], NOW + 0.5)
    assert await reporter.report(object_, moving[2], NOW - 3600)
    assert api.apply_status.await_count == 2
