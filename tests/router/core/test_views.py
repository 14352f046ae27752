"""What routers make of the view they have: stages without instances, views that differ, pods that
change stage under traffic, instances that come back."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cascade_policy.stage_map import Boundaries
from cascade_router.membership import View
from e2e.engine_simulator.next_token import expected_output
from tests.router.core.cluster import (
    FAST,
    PATIENT,
    Cluster,
    Received,
    cluster,
    config_for,
    free_port,
    stage_map,
    stream,
    until,
)
from tests.router.core.loop import on_uvloop

COMPLETIONS = "/v1/completions"
BOTH = [Boundaries.HARD, Boundaries.SOFT]


def body_of(length: int, output: int) -> dict[str, Any]:
    return {"prompt": [9] * length, "max_tokens": output, "ignore_eos": True}


async def served(service: Cluster, front: int, length: int, output: int) -> Received:
    """A request through one front, whose answer is complete and right."""
    got = await stream(service[front].url, COMPLETIONS, body_of(length, output))
    want = expected_output([9] * length, output, ignore_eos=True)
    assert (got.status, got.errors, got.text) == (200, [], want.text)
    return got


@pytest.mark.parametrize("boundaries", BOTH)
@pytest.mark.parametrize("stages", [[0, 3], [0], [3], [1, 2]])
@on_uvloop
async def test_stages_without_instances_are_served_by_the_nearest(
    tmp_path: Path, stages: list[int], boundaries: Boundaries
) -> None:
    plan = stage_map(40, 80, 160, boundaries=boundaries)
    async with cluster(tmp_path, stages, plan) as service:
        for length in (1, 50, 100, 300):
            for front in range(len(stages)):
                await served(service, front, length, 120)
        await service.settle()
        assert service.metric("cascade_rescues_total") == 0


@on_uvloop
async def test_an_empty_stage_falls_to_the_longer_neighbour_first(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 2], stage_map(40, 80)) as service:
        got = await served(service, 0, 50, 3)
        assert got.headers["x-cascade-stage"] == "2"


@pytest.mark.parametrize("boundaries", BOTH)
@on_uvloop
async def test_routers_with_different_stage_maps_serve_together(
    tmp_path: Path, boundaries: Boundaries
) -> None:
    """The news of a plan reaches them one after the other, and pods move in between: for a while
    pods may be of stages that some maps do not have."""
    plans = [stage_map(boundaries=boundaries), stage_map(40, 80, boundaries=boundaries)]
    async with cluster(tmp_path, [0, 1, 2, 0], plans[1]) as service:
        members = tuple(replace(one.member, stage=one.stage) for one in service.instances)
        for number, instance in enumerate(service.instances):
            instance.sidecar.use(View(plans[number % 2], members, instance.stage))
        await asyncio.gather(
            *(
                served(service, front, length, 100)
                for front in range(4)
                for length in (1, 30, 60, 200)
            )
        )
        await service.settle()
        assert service.metric("cascade_rescues_total") == 0
        # Each sequence outgrows two stages at most, whoever else sees them otherwise.
        if boundaries is Boundaries.HARD:
            assert service.metric("cascade_handovers_total", outcome="completed") <= 4 * 2 * 2


@on_uvloop
async def test_a_pod_that_moves_under_traffic_gets_nothing_of_its_old_stage_any_more(
    tmp_path: Path,
) -> None:
    steady = {**FAST, "baseMs": 3.0}
    async with cluster(tmp_path, [0, 0, 1], stage_map(100), coefficients=steady) as service:
        over, moved = asyncio.Event(), asyncio.Event()
        before: Counter[str] = Counter()
        after: Counter[str] = Counter()

        async def client(front: int) -> None:
            while not over.is_set():
                begun_after = moved.is_set()
                got = await served(service, front, 5, 20)
                (after if begun_after else before)[got.headers["x-cascade-instance"]] += 1

        clients = [asyncio.create_task(client(number % 3)) for number in range(9)]
        await until(lambda: before["pod-0"] > 5 and before["pod-1"] > 5, "both have work")
        service[0].stage = 1
        service.publish()
        moved.set()
        await until(lambda: after.total() > 40, "many more requests have come")
        over.set()
        await asyncio.gather(*clients)
        assert set(after) == {"pod-1"}
        await service.settle()


@on_uvloop
async def test_instances_that_greet_before_the_others_listen_do_not_avoid_them(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, [0, 0], stage_map()) as service:
        front = service[0].sidecar.tools
        late = replace(config_for(9, tmp_path / "hop-key", 1), listen_port=free_port())
        stranger = replace(service[1].member, name="late", address=late.address)
        members = (service[0].member, service[1].member, stranger)
        service[0].sidecar.use(View(service.stage_map, members, 0))
        channels = front.peers
        await until(
            lambda: stranger.address not in {one.address for one in channels.channels()},
            "the greeting has failed",
        )
        assert not front.bans.banned(stranger.address, front.loop.time())


@on_uvloop
async def test_an_instance_that_becomes_a_member_again_is_not_avoided_for_what_was(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, [0, 0], stage_map(), timing=PATIENT) as service:
        front, other = service[0].sidecar.tools, service[1].member
        for at in (0.0, 1.5, 4.0):
            front.bans.failed(other.address, front.loop.time() + at)
        service.publish()
        assert front.bans.until(other.address) is not None, "it was there all the time"
        service.publish(without=[service[1]])
        service.publish()
        assert front.bans.until(other.address) is None
