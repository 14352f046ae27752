"""The sidecar as the process it is in a pod: environment in, signals obeyed, exit status out."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from cascade_policy import names
from e2e.engine_simulator.next_token import expected_output
from e2e.engine_simulator.options import read_options
from e2e.engine_simulator.server import serving
from tests.router.core.cluster import FAST, MODEL, free_port, light_client, stage_map, stream
from tests.router.core.loop import on_uvloop
from tests.router.edge.api_server import CONFIG_MAPS, SLICES, ApiServer
from tests.router.edge.slices import a_slice, endpoint


def environment(folder: Path, api: ApiServer, engine_port: int, port: int) -> dict[str, str]:
    """What the operator's pod template sets."""
    key = folder / "hop-key"
    key.write_bytes(b"0123456789abcdef0123456789abcdef")
    return {
        names.ENV_NAMESPACE: "team-a",
        names.ENV_SERVICE: "llama",
        names.ENV_SERVICE_UID: "u-1",
        names.ENV_POD_NAME: "llama-0",
        names.ENV_POD_IP: "127.0.0.1",
        names.ENV_STAGE_MAP: "llama-stagemap",
        names.ENV_HOP_SECRET_FILE: str(key),
        names.ENV_ENGINE_URL: f"http://127.0.0.1:{engine_port}",
        names.ENV_LISTEN: f"127.0.0.1:{port}",
        "CASCADE_DRAIN_SECONDS": "20",
        "CASCADE_BID_DEADLINE_MS": "200",
        "KUBECONFIG": str(api.kubeconfig(folder)),
    }


@asynccontextmanager
async def process(env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m cascade_router`; killed at the end if it is still there."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cascade_router", env=env, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def ready(url: str) -> None:
    """Wait until the sidecar says that it is ready."""
    async with asyncio.timeout(20), light_client() as client:
        while True:
            try:
                if (await client.get(url + "/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


@on_uvloop
async def test_a_process_serves_and_leaves_on_sigterm_when_its_streams_have_ended(
    tmp_path: Path,
) -> None:
    options = read_options(
        ["--model", MODEL, "--port", "0", "--coefficients", json.dumps(dict(FAST))], {}
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with ApiServer() as api, serving(options) as (_, engine_port):
        data = {names.STAGE_MAP_KEY: stage_map().dumps()}
        await api.put(CONFIG_MAPS, {"metadata": {"name": "llama-stagemap"}, "data": data})
        slices = a_slice(0, endpoint("llama-0", "127.0.0.1"), port=port)
        await api.put(SLICES, slices)
        async with process(environment(tmp_path, api, engine_port, port)) as running:
            await ready(url)
            want = expected_output([5, 6], 3000, ignore_eos=True)
            body = {"prompt": [5, 6], "max_tokens": 3000, "ignore_eos": True}
            told: list[bool] = []

            def tell(got: object) -> None:  # noqa: ARG001
                """SIGTERM at the first event."""
                if not told:
                    told.append(True)
                    running.send_signal(signal.SIGTERM)

            got = await stream(url, "/v1/completions", body, on_event=tell)
            assert (got.text, got.errors) == (want.text, [])
            async with asyncio.timeout(20):
                _, errors = await running.communicate()
            assert running.returncode == 0, errors.decode()
            assert b"Traceback" not in errors


@on_uvloop
async def test_a_process_with_a_wrong_environment_says_which_variable() -> None:
    async with process({}) as running:
        _, errors = await running.communicate()
        assert running.returncode not in (0, None)
        assert names.ENV_SERVICE.encode() in errors
        assert b"Traceback" not in errors
