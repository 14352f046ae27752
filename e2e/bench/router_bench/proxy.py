"""The floor of plain Python: a reverse proxy of a page, aiohttp on uvloop.

`python -m e2e.bench.router_bench.proxy --port N --engine URL`
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from typing import Final

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

ENGINE: Final = web.AppKey("engine", str)
SESSION: Final = web.AppKey("session", ClientSession)
KEPT_HEADERS: Final = ("content-type",)


async def relay(request: web.Request) -> web.StreamResponse:
    """Pass a request on, and its answer back as it comes."""
    session, url = request.app[SESSION], request.app[ENGINE] + request.path
    headers = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
    async with session.request(
        request.method, url, data=await request.read(), headers=headers
    ) as answer:
        response = web.StreamResponse(status=answer.status)
        for name in KEPT_HEADERS:
            if name in answer.headers:
                response.headers[name] = answer.headers[name]
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


async def _session(app: web.Application) -> AsyncIterator[None]:
    timeout = ClientTimeout(total=None, sock_connect=5)
    async with ClientSession(connector=TCPConnector(limit=0), timeout=timeout) as session:
        app[SESSION] = session
        yield


async def _run(port: int, engine: str) -> None:
    app = web.Application()
    app[ENGINE] = engine
    app.cleanup_ctx.append(_session)
    app.router.add_route("*", "/{path:.*}", relay)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.router_bench.proxy")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--engine", required=True, metavar="URL")
    options = parser.parse_args()
    uvloop.run(_run(options.port, options.engine))


if __name__ == "__main__":
    main()
