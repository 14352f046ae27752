"""Who is asked, who answers in time, and what a target makes of a price that is old."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from cascade_policy.arrival import Arrival, Question
from cascade_policy.instance_book import Stay
from cascade_policy.load import IDLE, InstanceLoad
from cascade_policy.offer import Offer
from cascade_policy.price import price
from cascade_policy.stage_map import COPY, Boundaries, Handoff
from cascade_router.announce import write_offer
from cascade_router.dispatch import Wish
from e2e.engine_simulator.next_token import expected_output
from tests.router.core.cluster import (
    FAST,
    PATIENT,
    Instance,
    cluster,
    stage_map,
    stream,
    until,
)
from tests.router.core.loop import on_uvloop


def enter(instance: Instance, length: int) -> Stay:
    """A sequence that the book of `instance` holds and its engine knows nothing of."""
    return instance.sidecar.tools.own.enter(Arrival(length))


@on_uvloop
async def test_a_bid_tells_the_load_and_the_book_is_exact(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(3000)) as service:
        body = {"prompt": [7] * 50, "max_tokens": 3000, "ignore_eos": True}
        tasks = [
            asyncio.create_task(stream(service[number % 2].url, "/v1/completions", body))
            for number in range(6)
        ]
        await until(lambda: len(service[0].engine.batch.running) == 6, "all six run")
        batch = service[0].engine.batch
        await until(lambda: min(s.generated for s in batch.running) > 20, "they decode")
        service[0].engine.faults.hang = True
        own = service[0].sidecar.tools.own
        await until(
            lambda: own.load().kv_tokens == sum(s.length for s in batch.running),
            "the book holds what the engine holds, for both hops",
        )
        offers = service[1].sidecar.tools.dispatcher.offers
        told = await offers.ask([service[0].member], Question())
        lengths = [sequence.length for sequence in batch.running]
        load = told[service[0].member.address].load
        assert (load.sequences, load.kv_tokens) == (6, sum(lengths))
        assert load.kv_tokens_squared == sum(length * length for length in lengths)
        service[0].engine.faults.hang = False
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await service.settle()


@on_uvloop
async def test_the_price_that_is_held_is_the_one_that_the_target_computes(tmp_path: Path) -> None:
    """With copies a bid counts on decoding elsewhere, which the target knows nothing of."""
    engine = replace(stage_map().engine, per_sequence_ms=5.0)
    copying = Handoff(transport=COPY)
    plan = stage_map(boundaries=Boundaries.SOFT, handoff=copying, engine=engine)
    timing = replace(PATIENT, bid_deadline=1e-6)
    decoding = InstanceLoad(40, 40_000, 60_000_000, 0.0, 0.0)
    computing = InstanceLoad(1, 500, 250_000, 9_000.0, 0.0)
    async with cluster(tmp_path, [0, 0, 0], plan, timing=timing) as service:
        front = service[0].sidecar.tools.dispatcher
        enter(service[0], 3000)
        loads = {service[1].member.address: decoding, service[2].member.address: computing}
        for address, load in loads.items():
            front.offers.heard(address, Offer(load))
        placed = await front.place(Wish(500, without=frozenset({service[0].member.address})))
        assert placed is not None
        assert placed.member == service[1].member
        assert placed.bid == price(
            loads[placed.member.address],
            plan.engine,
            500,
            placed.remaining,
            plan.tpot_target_ms,
        )


@on_uvloop
async def test_a_price_that_has_risen_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = {**FAST, "perSequenceMs": 5.0}
    plan = stage_map(3000, engine=replace(stage_map().engine, per_sequence_ms=5.0))
    async with cluster(tmp_path, [1, 0], plan, coefficients=slow) as service:
        front, target = service[0].sidecar, service[1]
        stays = [enter(target, 500) for _ in range(40)]
        # What it told before these came.
        monkeypatch.setattr(target.sidecar.hop_side, "bid", lambda _: write_offer(Offer(IDLE)))
        body = {"prompt": [5, 6], "max_tokens": 20, "ignore_eos": True}
        got = await stream(service[0].url, "/v1/completions", body)
        assert got.text == expected_output([5, 6], 20, ignore_eos=True).text
        assert got.headers["x-cascade-instance"] == target.name
        assert service.metric("cascade_dispatch_refusals_total", reason="price") == 1
        for stay in stays:
            stay.leave(front.tools.loop.time())
        await service.settle()


@on_uvloop
async def test_a_full_stage_overflows_to_its_neighbour_where_boundaries_are_soft(
    tmp_path: Path,
) -> None:
    plan = stage_map(1000, boundaries=Boundaries.SOFT)
    async with cluster(tmp_path, [0, 1], plan) as service:
        full = [enter(service[0], 10) for _ in range(512)]
        body = {"prompt": [5, 6], "max_tokens": 5}
        got = await stream(service[1].url, "/v1/completions", body)
        assert got.headers["x-cascade-stage"] == "1"
        assert service.metric("cascade_out_of_stage_dispatches_total") == 1
        for stay in full:
            stay.leave(service[0].sidecar.tools.loop.time())
        got = await stream(service[1].url, "/v1/completions", body)
        assert got.headers["x-cascade-stage"] == "0"


@on_uvloop
async def test_an_instance_that_left_is_not_chosen_any_more(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 0, 1], stage_map(1000)) as service:
        service.publish(without=[service[0]])
        body = {"prompt": [5, 6], "max_tokens": 2}
        for _ in range(5):
            got = await stream(service[2].url, "/v1/completions", body)
            assert got.headers["x-cascade-instance"] == "pod-1"


@on_uvloop
async def test_an_instance_whose_engine_is_not_well_gets_nothing_though_its_stage_has_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(1000)) as service:
        own = service[0].sidecar.tools.own
        monkeypatch.setattr(own, "_probed", lambda _good, **_: None)
        own.healthy = False
        for _ in range(5):
            got = await stream(service[1].url, "/v1/completions", {"prompt": [5], "max_tokens": 2})
            assert got.headers["x-cascade-instance"] == "pod-1"
            bans = service[1].sidecar.tools.bans
            bans.succeeded(service[0].member.address)
        assert service[0].engine.metrics.prompt_tokens == 0
        await service.settle()


@on_uvloop
async def test_a_relabelled_instance_serves_its_new_stage_and_keeps_what_runs(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, [0, 0, 1], stage_map(100)) as service:
        body = {"prompt": [5, 6], "max_tokens": 300, "ignore_eos": True}
        want = expected_output([5, 6], 300, ignore_eos=True)
        service.publish(without=[service[1]])
        running = [
            asyncio.create_task(stream(service[2].url, "/v1/completions", body)) for _ in range(6)
        ]
        await until(lambda: len(service[0].engine.batch.running) == 6, "the first one has work")
        service[0].stage = 1
        service.publish()
        got = await stream(service[2].url, "/v1/completions", {**body, "max_tokens": 1})
        assert got.headers["x-cascade-instance"] == "pod-1"
        for task in running:
            assert (await task).text == want.text
        await service.settle()
