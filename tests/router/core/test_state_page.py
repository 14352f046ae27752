"""The state of a router: who may see it, what it shows, and how large it gets."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cascade_policy import names
from cascade_policy.load import InstanceLoad
from cascade_policy.offer import Offer
from cascade_router import state_page
from cascade_router.api import STATE_PATH
from cascade_router.hop import sign, signed_text
from cascade_router.membership import Member, View
from cascade_router.record import RequestRecord
from cascade_router.show_state import NoState, fetch_state
from cascade_router.state_page import MAX_LISTED, nominal_price, offer_shown, plan, requests
from tests.router.core.cluster import (
    Cluster,
    cluster,
    light_client,
    stage_map,
    stream,
    until,
)
from tests.router.core.loop import on_uvloop
from tests.router.edge.mounted_secret import MountedSecret

KEY = "key-0123456789abcdef"
HOP_KEY = b"0123456789abcdef0123456789abcdef"
BODY = {"prompt": [300, 301, 302], "max_tokens": 400, "ignore_eos": True}


def signed(service: Cluster, text: str | None = None, key: bytes = HOP_KEY) -> dict[str, str]:
    address = service[0].member.address
    text = signed_text(STATE_PATH, address) if text is None else text
    return {"x-cascade-hop": sign(key, text, time.time(), "a1" * 16)}


async def state(service: Cluster) -> dict[str, Any]:
    async with light_client() as client:
        answer = await client.get(service[0].url + STATE_PATH, headers=signed(service))
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


@on_uvloop
async def test_without_keys_the_state_is_for_those_who_can_sign(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service, light_client() as client:
        url, address = service[0].url + STATE_PATH, service[0].member.address
        for headers in (
            {},
            {"authorization": f"Bearer {KEY}"},
            {"x-cascade-hop": ""},
            signed(service, key=b"f" * 32),
            signed(service, STATE_PATH),
            signed(service, signed_text(STATE_PATH, "10.0.0.1:8000")),
            signed(service, f"/_cascade/channel#to#{address}"),
        ):
            answer = await client.get(url, headers=headers)
            assert answer.status_code == 403
            assert "show_state" in answer.json()["error"]["message"]
        assert (await client.get(url, headers=signed(service))).status_code == 200
        channel = service[0].url + "/_cascade/channel"
        assert (await client.get(channel, headers=signed(service))).status_code == 403


@on_uvloop
async def test_with_keys_the_state_is_for_those_who_have_one_and_for_those_who_can_sign(
    tmp_path: Path,
) -> None:
    keys = MountedSecret(tmp_path / "keys", {"k": KEY.encode()}).folder
    settings = {"api_keys_dir": keys}
    async with (
        cluster(tmp_path, [0], stage_map(), settings=settings) as service,
        light_client() as client,
    ):
        url = service[0].url + STATE_PATH
        assert (await client.get(url)).status_code == 401
        with_key = await client.get(url, headers={"authorization": f"Bearer {KEY}"})
        assert with_key.json()["keys"] == {"asked_for": True, "count": 1}
        assert (await client.get(url, headers=signed(service))).status_code == 200


@on_uvloop
async def test_what_a_busy_router_shows(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 1, 0], stage_map(1000)) as service:
        service[2].engine.faults.hang = True
        service.publish(without=[service[0]])
        running = asyncio.create_task(
            stream(service[0].url, "/v1/completions", BODY, headers={"x-request-id": "call-1"})
        )
        await until(lambda: bool(service[2].engine.batch.waiting), "the engine has it")
        page = await state(service)
        assert page["router"]["pod"] == "pod-0"
        assert page["router"]["versions"]["uvloop"]
        assert page["draining"] is False
        assert page["plan"]["id"] == "p"
        assert page["plan"]["stages"] == [[0, 1000], [1001, 4096]]
        assert page["engine"]["healthy"] is True
        assert page["engine"]["load"]["sequences"] == 0
        assert page["engine"]["capacity_blocks"] > page["engine"]["booked_blocks"] == 0
        far = next(one for one in page["instances"]["listed"] if one["name"] == "pod-2")
        assert page["instances"]["count"] == 2
        assert (far["stage"], far["banned_seconds"]) == (0, None)
        assert far["offer"]["sequences"] == 1
        assert far["nominal_price_ms"] > 0
        assert far["offer_age_seconds"] >= 0
        (shown,) = page["requests"]["listed"]
        assert page["requests"]["by_stage"] == {"0": 1}
        assert shown["request_id"] == "call-1"
        assert (shown["instance"], shown["legs"], shown["output_tokens"]) == ("pod-2", 1, 0)
        streams = {
            channel["address"]: channel["streams"]
            for channel in page["channels"]["to_instances"]["listed"]
        }
        assert streams[service[2].member.address] == 1
        assert page["connections"]["busy"] >= 2
        assert page["queue"]["count"] == 0
        assert page["limits"]["max_waiting"] == 1024
        service[2].engine.faults.hang = False
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@on_uvloop
async def test_a_banned_instance_is_shown_as_such(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 0], stage_map()) as service:
        tools = service[0].sidecar.tools
        tools.bans.failed(service[1].member.address, tools.loop.time() + 5)
        page = await state(service)
        banned = {one["name"]: one["banned_seconds"] for one in page["instances"]["listed"]}
        assert banned["pod-0"] is None
        assert 5 < banned["pod-1"] <= 6


@on_uvloop
async def test_the_page_of_a_large_pool_stays_small_and_cheap(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        members = tuple(
            Member(f"pod-{number}", f"10.0.{number // 250}.{number % 250}:8000", 0)
            for number in range(4000)
        )
        sidecar = service[0].sidecar
        sidecar.tools.dispatcher.use(View(service.stage_map, members, 0))
        for member in members:
            sidecar.tools.dispatcher.offers.heard(member.address, Offer(capacity_tokens=1000))
        sidecar.tools.metrics.use(stage_map())
        page = await state(service)
        assert page["instances"]["count"] == 4000
        assert len(page["instances"]["listed"]) == MAX_LISTED
        assert len(json.dumps(page)) < 250_000


@on_uvloop
async def test_whoever_asks_very_often_gets_the_page_of_a_moment_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        first = await state(service)
        monkeypatch.setattr(state_page, "LEAST_SECONDS", 1000.0)
        assert await state(service) == await state(service)
        monkeypatch.setattr(state_page, "LEAST_SECONDS", 0.0)
        later = await state(service)
        assert later["router"]["up_seconds"] > first["router"]["up_seconds"]


class Running:
    """A request that is under way."""

    def __init__(self, number: int) -> None:
        self.record = RequestRecord("POST", "/v1/completions", f"{number}", "", float(-number))
        self.record.stage = number % 3 or None
        self.tokens = number

    def view_changed(self) -> None: ...

    def sweep(self, now: float) -> None: ...


def test_the_oldest_requests_are_listed_and_all_are_counted() -> None:
    page = requests([Running(number) for number in range(1000)], now=0.0)
    assert page["count"] == 1000
    assert page["by_stage"] == {"1": 333, "2": 333}
    assert page["unplaced"] == 334
    ages = [one["age_seconds"] for one in page["listed"]]
    assert ages == [float(age) for age in range(999, 999 - MAX_LISTED, -1)]


def test_a_price_that_is_none_can_be_shown() -> None:
    offer = Offer(InstanceLoad(512, 10**7, 10**12, 0.0, 0.0))
    assert nominal_price(offer, stage_map()) is None
    assert nominal_price(Offer(), None) is None
    assert msgspec.json.encode(offer_shown(Offer()))
    assert msgspec.json.encode(plan(stage_map(1000)))


@on_uvloop
async def test_the_command_prints_what_its_router_shows(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        env = {
            names.ENV_NAMESPACE: "ns",
            names.ENV_SERVICE: "svc",
            names.ENV_SERVICE_UID: "uid",
            names.ENV_POD_NAME: "pod-0",
            names.ENV_POD_IP: "127.0.0.1",
            names.ENV_LISTEN: f"0.0.0.0:{service[0].member.address.rpartition(':')[2]}",
            names.ENV_HOP_SECRET_FILE: str(tmp_path / "hop-key"),
        }
        page = await asyncio.to_thread(fetch_state, env)
        assert page["router"]["pod"] == "pod-0"
        other = {**env, names.ENV_POD_IP: "127.0.0.2"}
        with pytest.raises(NoState, match="status 403"):
            await asyncio.to_thread(fetch_state, other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({names.ENV_POD_IP: ""}, "CASCADE_POD_IP is not set", id="no environment"),
        pytest.param({}, "no hop key in", id="no key"),
    ],
)
def test_the_command_says_what_it_needs(tmp_path: Path, change: dict[str, str], words: str) -> None:
    needed = (names.ENV_NAMESPACE, names.ENV_SERVICE, names.ENV_SERVICE_UID, names.ENV_POD_NAME)
    env = {**dict.fromkeys(needed, "x"), names.ENV_POD_IP: "127.0.0.1", **change}
    env[names.ENV_HOP_SECRET_FILE] = str(tmp_path / "none")
    with pytest.raises(NoState, match=words):
        fetch_state(env)
