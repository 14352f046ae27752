"""Warm hand-overs: the target computes the sequence while the source goes on."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cascade_policy.arrival import Arrival, Purpose, Question
from cascade_policy.instance_book import MAX_WARMING
from cascade_policy.stage_map import WARM, Boundaries, Handoff, StageMap
from cascade_router import limits
from e2e.engine_simulator.next_token import expected_output
from tests.router.core.cluster import Cluster, Received, cluster, lone_sidecar, stage_map, stream
from tests.router.core.loop import on_uvloop
from tests.router.core.scripted import STREAM_HEAD, Connection, scripted_engine
from tests.router.core.test_sse import completion

BOUNDARY = 600
OUTPUT = 150
PREFILL = {"prefillMsPerToken": 0.05}
"""Thirty steps for a prompt of this length: time enough to look at a warm-up."""


def warm(*ends: int, **changes: Any) -> StageMap:
    return stage_map(*ends, handoff=Handoff(transport=WARM, slice_tokens=16), **changes)


def body_of(prompt: list[int], **fields: Any) -> dict[str, Any]:
    return {"prompt": prompt, "max_tokens": OUTPUT, "ignore_eos": True, **fields}


def handovers(service: Cluster, outcome: str, transport: str = "warm") -> float:
    return service.metric("cascade_handovers_total", outcome=outcome, transport=transport)


@pytest.mark.parametrize("own_target", [True, False], ids=["own engine", "another pod's"])
@on_uvloop
async def test_a_warm_hand_over_leaves_ids_and_text_whole_and_finds_a_warm_cache(
    tmp_path: Path, own_target: bool
) -> None:
    async with cluster(tmp_path, [0, 1], warm(BOUNDARY), coefficients=PREFILL) as service:
        front = service[1] if own_target else service[0]
        for position in range(1, 40, 3):
            prompt = [270 + position] * (BOUNDARY + 1 - position)
            want = expected_output(prompt, OUTPUT, ignore_eos=True)
            got = await stream(
                front.url,
                "/v1/completions",
                body_of(prompt, return_token_ids=True, stream_options={"include_usage": True}),
            )
            assert (got.text, got.ids, got.errors) == (want.text, want.ids, [])
            assert [usage["completion_tokens"] for usage in got.usage] == [OUTPUT]
        await service.settle()
        assert handovers(service, "completed") == 13
        batch = service[1].engine.batch
        # Each sequence came twice: to be warmed, when all of it was new, and to stay.
        assert 0.4 < batch.cache_hits / batch.cache_queries < 0.6


@on_uvloop
async def test_the_client_gets_tokens_while_the_target_is_warmed(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 1], warm(BOUNDARY), coefficients=PREFILL) as service:
        prompt = [271] * (BOUNDARY - 10)
        got = await stream(service[0].url, "/v1/completions", body_of(prompt))
        assert got.text == expected_output(prompt, OUTPUT, ignore_eos=True).text
        made_by_source = service[0].engine.metrics.generation_tokens
        assert made_by_source > 11 + 10, "the source went on beyond the boundary"


@on_uvloop
async def test_an_engine_without_prefix_cache_is_not_warmed(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 1], warm(BOUNDARY), "--no-enable-prefix-caching") as service:
        book = service[1].sidecar.tools.own
        async with asyncio.timeout(20):
            while book.offer(Question(100)).caching:  # noqa: ASYNC110 - read from its metrics page
                await asyncio.sleep(0.05)
        prompt = [271] * (BOUNDARY - 10)
        got = await stream(service[0].url, "/v1/completions", body_of(prompt))
        assert got.text == expected_output(prompt, OUTPUT, ignore_eos=True).text
        assert handovers(service, "completed", "recompute") == 1
        assert handovers(service, "completed") == 0


@on_uvloop
async def test_a_target_with_enough_warm_ups_declines_and_the_source_goes_on(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, [0, 1], warm(BOUNDARY), coefficients=PREFILL) as service:
        own = service[1].sidecar.tools.own
        others = [own.enter(Arrival(300, purpose=Purpose.WARM)) for _ in range(MAX_WARMING)]
        prompt = [271] * (BOUNDARY - 10)
        want = expected_output(prompt, OUTPUT, ignore_eos=True)

        def let_go(got: Received) -> None:
            """The others are done when the stream has come far."""
            if len(got.events) == 80:
                for other in others:
                    other.leave(service[1].sidecar.tools.loop.time())

        got = await stream(service[0].url, "/v1/completions", body_of(prompt), on_event=let_go)
        assert (got.text, got.errors) == (want.text, [])
        await service.settle()
        assert handovers(service, "refused") >= 1
        assert handovers(service, "completed") == 1


@pytest.mark.parametrize("how", ["dies", "hangs"])
@on_uvloop
async def test_a_target_that_is_lost_during_its_warm_up_costs_the_client_nothing(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WARM_SECONDS", 0.3)
    slow = {**PREFILL, "prefillMsPerToken": 0.5}
    plan = warm(BOUNDARY)
    async with cluster(tmp_path, [0, 1], plan, coefficients=slow) as service:
        prompt = [271] * (BOUNDARY - 10)
        want = expected_output(prompt, 1500, ignore_eos=True)
        struck = list[asyncio.Future[Any]]()

        async def lose() -> None:
            if how == "hangs":
                service[1].engine.faults.hang = True
            else:
                await service[1].kill_engine()

        def strike(_: Received) -> None:
            """As soon as the target computes."""
            if service[1].engine.batch.running and not struck:
                struck.append(asyncio.ensure_future(lose()))

        body = body_of(prompt, max_tokens=1500)
        got = await stream(service[0].url, "/v1/completions", body, on_event=strike)
        assert struck
        assert (got.text, got.errors) == (want.text, [])
        assert handovers(service, "failed") == 1
        assert handovers(service, "completed") == 0
        service[1].engine.faults.hang = False
        await asyncio.gather(*struck)


@on_uvloop
async def test_a_source_that_dies_during_the_warm_up_is_rescued_by_the_warm_target(
    tmp_path: Path,
) -> None:
    slow = {**PREFILL, "prefillMsPerToken": 0.5}
    async with cluster(tmp_path, [0, 1], warm(BOUNDARY), coefficients=slow) as service:
        prompt = [271] * (BOUNDARY - 10)
        want = expected_output(prompt, OUTPUT, ignore_eos=True)
        killed: list[Any] = []

        def kill(_: Received) -> None:
            if service[1].engine.batch.running and not killed:
                killed.append(asyncio.ensure_future(service[0].kill_engine()))

        got = await stream(service[0].url, "/v1/completions", body_of(prompt), on_event=kill)
        await asyncio.gather(*killed)
        assert (got.text, got.errors) == (want.text, [])
        assert service.metric("cascade_rescues_total", outcome="completed") == 1
        assert handovers(service, "cancelled") == 1


@on_uvloop
async def test_a_client_that_leaves_during_the_warm_up_frees_both_engines(tmp_path: Path) -> None:
    slow = {**PREFILL, "prefillMsPerToken": 0.5}
    async with cluster(tmp_path, [0, 1], warm(BOUNDARY), coefficients=slow) as service:

        def leave(_: Received) -> None:
            if service[1].engine.batch.running:
                raise TimeoutError

        with pytest.raises(TimeoutError):
            await stream(
                service[0].url,
                "/v1/completions",
                body_of([271] * (BOUNDARY - 10)),
                on_event=leave,
            )
        await service.settle()
        assert handovers(service, "cancelled") == 1


@on_uvloop
async def test_a_stream_that_ends_before_its_target_is_warm_stays_where_it_is(
    tmp_path: Path,
) -> None:
    slow = {**PREFILL, "prefillMsPerToken": 2.0}
    async with cluster(tmp_path, [0, 1], warm(BOUNDARY), coefficients=slow) as service:
        prompt = [271] * (BOUNDARY - 1)
        want = expected_output(prompt, 60, ignore_eos=True)
        got = await stream(service[0].url, "/v1/completions", body_of(prompt, max_tokens=60))
        assert (got.text, got.errors) == (want.text, [])
        await service.settle()
        assert handovers(service, "cancelled") == 1


@on_uvloop
async def test_soft_boundaries_move_warm_where_it_pays(tmp_path: Path) -> None:
    """A sequence alone in a crowd of long ones leaves for an idle instance."""
    plan = warm(
        BOUNDARY,
        boundaries=Boundaries.SOFT,
        engine=replace(stage_map().engine, per_sequence_ms=1.0),
        expected_remaining=((4096, 400.0),),
    )
    async with cluster(tmp_path, [0, 1], plan, coefficients=PREFILL) as service:
        own = service[0].sidecar.tools.own
        service.publish(without=[service[1]])
        prompt = [271] * (BOUNDARY - 10)
        want = expected_output(prompt, 300, ignore_eos=True)
        crowd: list[Any] = []

        def come(got: Received) -> None:
            if len(got.events) == 5:
                crowd.extend(own.enter(Arrival(1000)) for _ in range(60))
                service.publish()

        got = await stream(
            service[0].url, "/v1/completions", body_of(prompt, max_tokens=300), on_event=come
        )
        assert (got.text, got.errors) == (want.text, [])
        for stay in crowd:
            stay.leave(service[0].sidecar.tools.loop.time())
        await service.settle()
        assert handovers(service, "completed") == 1


@on_uvloop
async def test_an_instance_that_resumes_other_ids_than_it_was_given_is_left(
    tmp_path: Path,
) -> None:
    """An engine behind a proxy that cuts prompts, say: its stream would be wrong, silently."""

    async def liar(connection: Connection, _path: str, body: bytes) -> None:
        prompt = json.loads(body)["prompt"]
        connection.send(STREAM_HEAD)
        connection.send_chunk(completion("wrong", [1], prompt=prompt[:-1]))

    async with (
        scripted_engine(liar) as engine,
        lone_sidecar(tmp_path, engine.port) as (far, far_url),
        cluster(tmp_path, [0], stage_map(60)) as service,
    ):
        service.stage_map = stage_map(60)
        front = service[0]
        far_member = replace(front.member, address=far_url.removeprefix("http://"), stage=1)
        view = front.sidecar.tools.dispatcher.view
        front.sidecar.use(replace(view, members=(*view.members, far_member)))
        prompt = [271] * 50
        want = expected_output(prompt, 100, ignore_eos=True)
        got = await stream(front.url, "/v1/completions", body_of(prompt, max_tokens=100))
        assert (got.text, got.errors) == (want.text, [])
        assert handovers(service, "failed", "recompute") >= 1
        assert far.tools.own.load().sequences == 0
