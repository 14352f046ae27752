"""API keys at the door of a real sidecar: who comes in, and what goes on from there."""

from pathlib import Path

import pytest

from cascade_router.api import API, Serving
from cascade_router.membership import Member, View
from e2e.engine_simulator.next_token import expected_output
from tests.router.core.cluster import (
    MODEL,
    cluster,
    light_client,
    lone_sidecar,
    stage_map,
    stream,
    until,
)
from tests.router.core.loop import on_uvloop
from tests.router.edge.mounted_secret import MountedSecret
from tests.router.engine_api.recording import recording_engine

KEY, NEXT = "key-0123456789abcdef", "next-0123456789abcdef"
BEARER = {"authorization": f"Bearer {KEY}"}
BODY = {"model": MODEL, "prompt": [5, 6, 7], "max_tokens": 8, "ignore_eos": True}
ANTHROPIC = ("/v1/messages", "/v1/messages/count_tokens")


def secret(folder: Path, *keys: str) -> MountedSecret:
    return MountedSecret(folder / "keys", {f"k{i}": key.encode() for i, key in enumerate(keys)})


@on_uvloop
async def test_every_path_of_clients_needs_a_key(tmp_path: Path) -> None:
    mount = secret(tmp_path, KEY)
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, api_keys_dir=mount.folder) as (sidecar, url),
        light_client() as client,
    ):
        paths = [served for served in API if served.serving is not Serving.ROUTER]
        for served in paths:
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": KEY}):
                answer = await client.request(
                    served.method, url + served.path, content=b"{", headers=headers
                )
                assert (served.path, answer.status_code) == (served.path, 401)
                assert answer.headers["www-authenticate"] == "Bearer"
                body = answer.json()
                assert body["error"]["type"] == "authentication_error"
                assert (body.get("type") == "error") is (served.path in ANTHROPIC)
            answer = await client.request(
                served.method, url + served.path, json=BODY, headers=BEARER
            )
            assert (served.path, answer.status_code) == (served.path, 200)
        assert len(engine.seen) == len(paths), "nothing reached the engine without a key"
        assert (await client.get(url + "/v1/nothing")).status_code == 401
        assert (await client.get(url + "/v1/nothing", headers=BEARER)).status_code == 404
        page = sidecar.tools.metrics_page().decode()
        refused = 3 * len(paths) + 1
        assert (
            f'cascade_unauthorized_requests_total{{namespace="ns",service="svc"}} {refused}' in page
        )
        assert 'outcome="rejected"} 0' in page


@on_uvloop
async def test_clients_of_the_messages_api_send_their_key_in_their_own_header(
    tmp_path: Path,
) -> None:
    mount = secret(tmp_path, KEY)
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, api_keys_dir=mount.folder) as (_, url),
        light_client() as client,
    ):
        for path in (*ANTHROPIC, "/v1/chat/completions"):
            answer = await client.post(url + path, json=BODY, headers={"x-api-key": KEY})
            assert (path, answer.status_code) == (path, 200 if path in ANTHROPIC else 401)
        wrong = await client.post(url + ANTHROPIC[0], json=BODY, headers={"x-api-key": NEXT})
        assert wrong.status_code == 401
        assert "x-api-key" in wrong.json()["error"]["message"]


@on_uvloop
async def test_probes_and_metrics_need_no_key(tmp_path: Path) -> None:
    mount = secret(tmp_path, KEY)
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, api_keys_dir=mount.folder) as (_, url),
        light_client() as client,
    ):
        for path in ("/health", "/ready", "/metrics"):
            assert (await client.get(url + path)).status_code == 200


@on_uvloop
async def test_metrics_need_one_where_that_is_wanted(tmp_path: Path) -> None:
    mount = secret(tmp_path, KEY)
    keys = mount.folder
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, api_keys_dir=keys, metrics_auth=True) as (_, url),
        light_client() as client,
    ):
        assert (await client.get(url + "/metrics")).status_code == 401
        assert (await client.get(url + "/metrics", headers=BEARER)).status_code == 200
        assert (await client.get(url + "/health")).status_code == 200


@on_uvloop
async def test_keys_are_exchanged_without_a_restart(tmp_path: Path) -> None:
    mount = secret(tmp_path, KEY)
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, api_keys_dir=mount.folder) as (sidecar, url),
        light_client() as client,
    ):
        good: dict[str, int] = {}

        async def ask(key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            return (await client.get(url + "/v1/models", headers=headers)).status_code

        assert (await ask(KEY), await ask(NEXT)) == (200, 401)
        mount.put({"k0": NEXT.encode()})
        changed = sidecar.tools.loop.time()
        while good.get(KEY) != 401:
            good[KEY] = await ask(KEY)
            assert sidecar.tools.loop.time() - changed < 20
        assert await ask(NEXT) == 200


@on_uvloop
async def test_a_secret_without_a_key_refuses_everybody_and_is_not_ready(tmp_path: Path) -> None:
    mount = secret(tmp_path)
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, api_keys_dir=mount.folder) as (sidecar, url),
        light_client() as client,
    ):
        assert (await client.get(url + "/v1/models", headers=BEARER)).status_code == 401
        answer = await client.get(url + "/ready")
        assert answer.status_code == 503
        assert "no API key in the Secret" in answer.json()["error"]["message"]
        assert (await client.get(url + "/health")).status_code == 200
        mount.put({"k": KEY.encode()})
        await until(lambda: sidecar.front.ready, "it is ready")
        assert (await client.get(url + "/v1/models", headers=BEARER)).status_code == 200


@pytest.mark.parametrize("own", [True, False], ids=["one hop", "two hops"])
@on_uvloop
async def test_the_key_of_a_client_goes_no_further_than_the_door(tmp_path: Path, own: bool) -> None:
    mount = secret(tmp_path, KEY)
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, api_keys_dir=mount.folder) as (near, url),
        lone_sidecar(tmp_path, engine.port, api_keys_dir=mount.folder) as (_, far_url),
        light_client() as client,
    ):
        address = (url if own else far_url).removeprefix("http://")
        near.use(View(stage_map(), (Member("pod-0", address, 0),), 0))
        near.tools.own.healthy = own
        for path in ("/v1/completions", "/v1/messages", "/tokenize"):
            answer = await client.post(
                url + path, json=BODY, headers={**BEARER, "x-api-key": KEY, "traceparent": "00-1"}
            )
            assert answer.status_code == 200
        assert len(engine.seen) == 3
        for seen in engine.seen:
            assert "authorization" not in seen.headers
            assert seen.headers["traceparent"] == "00-1"
            assert KEY not in repr(seen)


@on_uvloop
async def test_sidecars_need_no_key_of_a_client(tmp_path: Path) -> None:
    mount = secret(tmp_path, KEY)
    settings = {"api_keys_dir": mount.folder}
    async with cluster(tmp_path, [1, 0], stage_map(1000), settings=settings) as service:
        body = {"prompt": [5, 6, 7], "max_tokens": 20, "ignore_eos": True}
        got = await stream(service[0].url, "/v1/completions", body, headers=BEARER)
        assert got.headers["x-cascade-instance"] == "pod-1"
        assert got.text == expected_output([5, 6, 7], 20, ignore_eos=True).text
        refused = await stream(service[0].url, "/v1/completions", body)
        assert refused.status == 401
