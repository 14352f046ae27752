"""When the status is written."""

from dataclasses import replace
from unittest.mock import create_autospec

from cascade_operator.cluster import ClusterApi
from cascade_operator.moves import Step
from cascade_operator.report import Reporter
from tests.operator.builders import NOW, instances, resource, snapshot, stage
from tests.operator.test_status import observation


async def test_while_things_move_the_status_follows_at_its_pace_whatever_the_clock_does() -> None:
    api = create_autospec(ClusterApi, instance=True)
    reporter = Reporter(api, "pod")
    seen = replace(observation(), step=Step(to_move=2))
    object_ = {**resource(), "status": {}}
    moving = [
        replace(seen, snapshot=snapshot(stage(0, 4), stage(1, 4), *instances(ready, 0)))
        for ready in (1, 2, 3)
    ]
    assert await reporter.report(object_, moving[0], NOW)
    object_["status"] = api.apply_status.call_args.args[2]["status"]
    assert not await reporter.report(object_, moving[1], NOW + 0.5)
    assert await reporter.report(object_, moving[2], NOW - 3600)
    assert api.apply_status.await_count == 2
