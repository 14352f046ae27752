"""Starts the engine and its listener, and ends them on a signal."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from e2e.engine_simulator.application import Application, Settings
from e2e.engine_simulator.engine import Engine
from e2e.engine_simulator.http_connection import HttpConnection, OpenConnections
from e2e.engine_simulator.metrics import Metrics
from e2e.engine_simulator.options import Options

BACKLOG = 2048


@asynccontextmanager
async def serving(options: Options) -> AsyncIterator[tuple[Engine, int]]:
    """The engine, listening; yields it with its port. Leaving cuts all connections off."""
    loop = asyncio.get_running_loop()
    engine = Engine(
        options.engine_model,
        Metrics(options.model, options.max_length),
        options.faults,
        _crash,
        prefix_caching=options.prefix_caching,
    )
    application = Application(
        Settings(
            model=options.model,
            max_length=options.max_length,
            coalesce_percent=options.coalesce_percent,
            allow_faults=options.allow_faults,
        ),
        engine,
    )
    connections = OpenConnections()
    server = await loop.create_server(
        partial(_connect, application, options.keep_alive_seconds, connections),
        options.host,
        options.port,
        backlog=BACKLOG,
    )
    starting = loop.call_later(options.slow_start_seconds, setattr, application, "ready", True)
    if not options.slow_start_seconds:
        application.ready = True
    try:
        yield engine, server.sockets[0].getsockname()[1]
    finally:
        starting.cancel()
        server.close()
        await connections.reset_all()


async def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT, then for as long as running requests may take."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(options) as (engine, port):
        # Everything made so far stays for good: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        print(f"serving {options.model} on {options.host}:{port}", file=sys.stderr, flush=True)
        await stop.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(engine.drained(), options.shutdown_seconds)


def _connect(
    application: Application, keep_alive_seconds: float, connections: OpenConnections
) -> HttpConnection:
    return HttpConnection(application.handle, keep_alive_seconds, connections)


def _crash() -> None:
    print("crashing on purpose", file=sys.stderr, flush=True)
    os._exit(70)
