"""The view of a sidecar while its API server answers, refuses, forgets, restarts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cascade_policy import names
from cascade_policy.profiles import PROFILES
from cascade_policy.stage_map import Stage, StageMap
from cascade_router.config import Config
from cascade_router.membership import Member, Membership, View
from tests.router.edge.api_server import CONFIG_MAPS, SLICES, ApiServer
from tests.router.edge.slices import a_slice, endpoint

DEADLINE_SECONDS = 10.0

STAGE_MAP = StageMap(
    plan_id="p1",
    time="t",
    model="m",
    max_length=4096,
    engine=PROFILES["simulated"],
    stages=(Stage(0, 0, 512, "llama-stage-0"), Stage(1, 513, 4096, "llama-stage-1")),
)
A, A1 = Member("pod-a", "10.0.0.1:8000", 0), Member("pod-a", "10.0.0.1:8000", 1)
B = Member("pod-b", "10.0.0.2:8000", 1)
A_ENTRY, B_ENTRY = endpoint("pod-a", "10.0.0.1"), endpoint("pod-b", "10.0.0.2")


def config_map(text: str) -> dict[str, Any]:
    return {"metadata": {"name": "llama-stagemap"}, "data": {names.STAGE_MAP_KEY: text}}


class Sidecar:
    """A running Membership, and every view that it published."""

    def __init__(self, kubeconfig: Path) -> None:
        self.views: list[View] = []
        self._changed = asyncio.Event()
        self._config = Config.from_env(
            {
                names.ENV_NAMESPACE: "team-a",
                names.ENV_SERVICE: "llama",
                names.ENV_SERVICE_UID: "u-1",
                names.ENV_POD_NAME: "pod-a",
                names.ENV_POD_IP: "10.0.0.1",
                "KUBECONFIG": str(kubeconfig),
            }
        )
        self.membership = Membership(self._config, self._on_view)

    def _on_view(self, view: View) -> None:
        assert view is self.membership.view
        self.views.append(view)
        self._changed.set()

    async def until(self, condition: Callable[[View], bool]) -> View:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition(self.membership.view):
                self._changed.clear()
                await self._changed.wait()
        return self.membership.view


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        await server.put(CONFIG_MAPS, config_map(STAGE_MAP.dumps()))
        await server.put(SLICES, a_slice(0, A_ENTRY))
        await server.put(SLICES, a_slice(1, B_ENTRY))
        yield server


@pytest.fixture
async def sidecar(api: ApiServer, tmp_path: Path) -> AsyncIterator[Sidecar]:
    made = Sidecar(api.kubeconfig(tmp_path))
    running = asyncio.create_task(made.membership.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def complete(view: View) -> bool:
    return view.stage_map is not None and len(view.members) == 2


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - a log line rings no bell
            await asyncio.sleep(0.01)


async def test_the_view_holds_the_plan_the_members_and_the_own_stage(sidecar: Sidecar) -> None:
    assert await sidecar.until(complete) == View(STAGE_MAP, (A, B), 0)


async def test_only_what_the_role_allows_is_asked_for(api: ApiServer, sidecar: Sidecar) -> None:
    await sidecar.until(complete)
    await eventually(lambda: len(api.requests) >= 4)
    for path, query in api.requests:
        if path == CONFIG_MAPS:
            assert query["fieldSelector"] == "metadata.name=llama-stagemap"
        else:
            assert query["labelSelector"] == (
                f"{names.LABEL_SERVICE}=llama,{names.LABEL_SERVICE_UID}=u-1,{names.LABEL_STAGE}"
            )


async def test_a_moved_pod_is_seen_at_once(api: ApiServer, sidecar: Sidecar) -> None:
    await sidecar.until(complete)
    started = asyncio.get_running_loop().time()
    await api.put(SLICES, a_slice(0))
    await api.put(SLICES, a_slice(1, A_ENTRY, B_ENTRY))
    view = await sidecar.until(lambda view: A1 in view.members)
    assert asyncio.get_running_loop().time() - started < 0.5
    assert (view.members, view.own_stage) == ((A1, B), 1)
    assert all(len(view.members) == 2 for view in sidecar.views[-2:]), "never out of the view"


async def test_a_pod_that_left_all_slices_is_gone_after_a_second(
    api: ApiServer, sidecar: Sidecar
) -> None:
    await sidecar.until(complete)
    started = asyncio.get_running_loop().time()
    await api.put(SLICES, a_slice(1))
    await sidecar.until(lambda view: view.members == (A,))
    assert 0.9 < asyncio.get_running_loop().time() - started < 2.0


async def test_an_own_pod_that_is_not_ready_still_knows_its_stage(
    api: ApiServer, sidecar: Sidecar
) -> None:
    await sidecar.until(complete)
    await api.put(SLICES, a_slice(0, endpoint("pod-a", "10.0.0.1", ready=False)))
    view = await sidecar.until(lambda view: A not in view.members)
    assert view.own_stage == 0


async def test_an_own_pod_that_is_deleted_is_seen_at_once(api: ApiServer, sidecar: Sidecar) -> None:
    assert not (await sidecar.until(complete)).leaving
    await api.put(SLICES, a_slice(0, endpoint("pod-a", "10.0.0.1", terminating=True)))
    view = await sidecar.until(lambda view: view.leaving)
    assert (view.members, view.own_stage) == ((B,), 0)


async def test_a_new_plan_is_taken_over(api: ApiServer, sidecar: Sidecar) -> None:
    await sidecar.until(complete)
    await api.put(CONFIG_MAPS, config_map(replace(STAGE_MAP, plan_id="p2").dumps()))
    await sidecar.until(lambda view: view.stage_map is not None and view.stage_map.plan_id == "p2")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{}", id="another format version"),
        pytest.param("nonsense", id="no JSON"),
        pytest.param(None, id="no text"),
    ],
)
async def test_a_plan_that_cannot_be_read_keeps_the_last_one_and_is_logged(
    api: ApiServer, sidecar: Sidecar, caplog: pytest.LogCaptureFixture, text: Any
) -> None:
    await sidecar.until(complete)
    await api.put(CONFIG_MAPS, config_map(text))
    await eventually(lambda: "last good stage map stays in force" in caplog.text)
    assert sidecar.membership.view.stage_map == STAGE_MAP
    await api.put(CONFIG_MAPS, config_map(replace(STAGE_MAP, plan_id="p3").dumps()))
    await sidecar.until(lambda view: view.stage_map is not None and view.stage_map.plan_id == "p3")


async def test_a_deleted_plan_stays_in_force(
    api: ApiServer, sidecar: Sidecar, caplog: pytest.LogCaptureFixture
) -> None:
    await sidecar.until(complete)
    await api.delete(CONFIG_MAPS, "llama-stagemap")
    await eventually(lambda: "was deleted" in caplog.text)
    assert sidecar.membership.view.stage_map == STAGE_MAP


async def test_a_server_that_refuses_is_asked_again(
    api: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api.refuse_with = 403
    made = Sidecar(api.kubeconfig(tmp_path))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.membership.run())
        await eventually(lambda: "the API server answers 403" in caplog.text)
        assert made.membership.view == View(None, (), None)
        api.refuse_with = None
        await made.until(complete)
        running.cancel()


async def test_the_last_view_holds_while_the_server_is_away_and_is_renewed_after(
    api: ApiServer, sidecar: Sidecar, caplog: pytest.LogCaptureFixture
) -> None:
    before = await sidecar.until(complete)
    await api.stop()
    await eventually(lambda: "watching EndpointSlices" in caplog.text)
    assert sidecar.membership.view == before
    await api.put(SLICES, a_slice(1))
    await api.put(SLICES, a_slice(0, A_ENTRY, B_ENTRY))
    await api.start()
    await sidecar.until(lambda view: view.members == (A, replace(B, stage=0)))


async def test_what_happened_beyond_the_history_is_listed_anew(
    api: ApiServer, sidecar: Sidecar
) -> None:
    await sidecar.until(complete)
    await api.stop()
    await api.put(SLICES, a_slice(1))
    await api.put(SLICES, a_slice(0, A_ENTRY, B_ENTRY))
    await api.expire()
    await api.start()
    await sidecar.until(lambda view: view.members == (A, replace(B, stage=0)))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("nonsense", id="no JSON"),
        pytest.param("[]", id="a JSON list"),
        pytest.param("{}", id="an object without version"),
    ],
)
async def test_an_answer_that_is_no_list_is_asked_for_again(
    api: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    api.answer_with = answer
    made = Sidecar(api.kubeconfig(tmp_path))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.membership.run())
        await eventually(lambda: "watching EndpointSlices" in caplog.text)
        api.answer_with = None
        await made.until(complete)
        running.cancel()


async def test_events_that_are_none_do_not_end_the_watch(
    api: ApiServer, sidecar: Sidecar, caplog: pytest.LogCaptureFixture
) -> None:
    await sidecar.until(complete)
    await api.interject(SLICES, ["what?"])
    await eventually(lambda: "no event" in caplog.text)
    await api.put(SLICES, a_slice(1, A_ENTRY, B_ENTRY))
    await sidecar.until(lambda view: A1 in view.members)


async def test_without_any_way_to_a_server_it_waits_and_keeps_trying(
    api: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Sidecar(tmp_path / "kubeconfig")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.membership.run())
        await eventually(lambda: "no way to the API server yet" in caplog.text)
        api.kubeconfig(tmp_path)
        await made.until(complete)
        running.cancel()
