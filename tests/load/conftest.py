"""Gives the tests a real engine to send load to."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from e2e.engine_simulator.options import read_options
from e2e.engine_simulator.server import serving
from e2e.load.options import Options

FAST = {"baseMs": 1.0, "perSequenceMs": 0.0, "perKvTokenMs": 0.0, "prefillMsPerToken": 0.001}

Serve = Callable[..., AbstractAsyncContextManager[int]]
Load = Callable[..., Options]


@pytest.fixture
def serve() -> Serve:
    """A function: command line in, the port of a running engine out."""

    @asynccontextmanager
    async def started(*arguments: str) -> AsyncIterator[int]:
        options = read_options(
            ["--model", "demo", "--port", "0", "--coefficients", json.dumps(FAST), *arguments], {}
        )
        async with serving(options) as (engine, port):
            yield port
            assert engine.batch.pool.used == 0, "the engine still holds memory"

    return started


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """A function: a port in, options that replay forty short requests within a second out."""
    trace = tmp_path / "short.csv"
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    rows += [
        f"2023-11-16 18:15:{place:02d}.6805900,{20 + 13 * place},{5 + 11 * place % 60}"
        for place in range(60)
    ]
    trace.write_text("\n".join(rows) + "\n")

    def made(port: int, **changes: object) -> Options:
        fields: dict[str, object] = {
            "url": f"http://127.0.0.1:{port}",
            "requests_per_second": 50.0,
            "duration": 0.8,
            "trace": str(trace),
            "drain_timeout": 20.0,
        }
        return Options(**{**fields, **changes})  # type: ignore[arg-type]

    return made
