"""Gives the tests a real engine on a port of its own, with steps of about a millisecond."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest

from e2e.engine_simulator.engine import Engine
from e2e.engine_simulator.options import read_options
from e2e.engine_simulator.server import serving

FAST = {"baseMs": 1.0, "perSequenceMs": 0.0, "perKvTokenMs": 0.0, "prefillMsPerToken": 0.001}

Serve = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, Engine]]]


@pytest.fixture
def serve() -> Serve:
    """A function: command line and coefficients in, a client and the engine out."""

    @asynccontextmanager
    async def started(
        *arguments: str, **coefficients: float
    ) -> AsyncIterator[tuple[httpx.AsyncClient, Engine]]:
        options = read_options(
            [
                "--model", "demo", "--port", "0", "--coalesce-percent", "0",
                "--coefficients", json.dumps(FAST | coefficients), *arguments,
            ],
            {},
        )  # fmt: skip
        async with (
            serving(options) as (engine, port),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
        ):
            yield client, engine

    return started
