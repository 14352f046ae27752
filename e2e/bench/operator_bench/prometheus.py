"""Answers what the operator asks Prometheus, from histograms that the bench sets.

The real Prometheus is tested elsewhere; here a plan has to come at a moment of our choosing.
"""

import math
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from cascade_planner.histogram import LengthHistogram
from cascade_policy import names
from e2e.bench.operator_bench.traffic import Mix

_SERVICE: Final = re.compile(r'service="([^"]+)"')


class Prometheus:
    """The traffic of every service."""

    def __init__(self) -> None:
        self._traffic: Mapping[str, Mix] = {}
        self.url = ""
        self.first_read = math.inf
        """When the present traffic was first asked for, monotonic seconds."""

    def set(self, traffic: Mapping[str, Mix]) -> None:
        """From now on the services have this traffic, by their names."""
        self._traffic = traffic
        self.first_read = math.inf

    async def answer(self, request: web.Request) -> web.Response:
        """`/api/v1/query`: one vector."""
        self.first_read = min(self.first_read, time.monotonic())
        form = await request.post() if request.method == "POST" else request.query
        vector = list(self._vector(str(form.get("query", ""))))
        return web.json_response(
            {"status": "success", "data": {"resultType": "vector", "result": vector}}
        )

    def _vector(self, query: str) -> Iterable[dict[str, Any]]:
        """The two histograms and the age of their samples; nothing of what else is asked."""
        found = _SERVICE.search(query)
        one = self._traffic.get(found[1]) if found else None
        if one is None:
            return ()
        if query.startswith("time()"):
            return (_sample({}, 1.0),)
        if f"{names.METRIC_PROMPT_TOKENS}_bucket" in query:
            return _buckets(one.prompts)
        if f"{names.METRIC_FINAL_TOKENS}_bucket" in query:
            return _buckets(one.finals)
        return ()


def _buckets(histogram: LengthHistogram) -> Iterable[dict[str, Any]]:
    for bound, rate in histogram.buckets:
        yield _sample({"le": "+Inf" if bound == math.inf else f"{bound:g}"}, rate)


def _sample(labels: dict[str, str], value: float) -> dict[str, Any]:
    return {"metric": labels, "value": [time.time(), str(value)]}


@asynccontextmanager
async def prometheus() -> AsyncIterator[Prometheus]:
    """Served on loopback for the time of the block."""
    served = Prometheus()
    app = web.Application()
    app.router.add_route("*", "/api/v1/query", served.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        served.url = f"http://{host}:{port}"
        yield served
    finally:
        await runner.cleanup()
