"""Whether this pod's engine is well: a dead one is known at once, a busy one may miss probes."""

import asyncio
from typing import Any

import pytest

from cascade_router.engine_metrics import EngineMetrics
from cascade_router.line import NobodyThere, NoConnection, Unreachable
from cascade_router.outbound import Outbound
from cascade_router.own_engine import FAILURES_TO_UNHEALTHY, OwnEngine
from cascade_router.pool import Pool
from cascade_router.replies import Reply
from tests.router.core.cluster import free_port
from tests.router.core.loop import on_uvloop


class Probed(OwnEngine):
    """An engine whose probes go as the test says."""

    outcome: Exception | int = 200

    async def ask(self, request: Outbound, seconds: float) -> Reply:  # noqa: ARG002
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return Reply(self.outcome, {}, b"")

    async def after(self, outcome: Exception | int, times: int) -> bool:
        """Whether it is well after so many probes like this."""
        self.outcome = outcome
        for _ in range(times):
            await self._probe()
        return self.healthy


def probed() -> Probed:
    loop = asyncio.get_running_loop()
    pool: Any = None
    return Probed(pool, "127.0.0.1:1", loop, EngineMetrics())


@pytest.mark.parametrize(
    "missed",
    [
        pytest.param(Unreachable("no answer within 3 s"), id="it does not answer in time"),
        pytest.param(NoConnection("not accepted in time"), id="it does not accept in time"),
        pytest.param(500, id="it answers with a fault"),
    ],
)
@on_uvloop
async def test_an_engine_that_works_may_miss_some_probes(missed: Exception | int) -> None:
    own = probed()
    assert await own.after(200, 1)
    assert await own.after(missed, FAILURES_TO_UNHEALTHY - 1)
    assert await own.after(200, 1)
    assert await own.after(missed, FAILURES_TO_UNHEALTHY - 1), "they are counted anew"
    assert not await own.after(missed, 1)


@on_uvloop
async def test_an_engine_that_does_not_listen_is_down_at_once() -> None:
    own = probed()
    assert await own.after(200, 1)
    assert not await own.after(NobodyThere("it does not listen"), 1)


@on_uvloop
async def test_a_port_where_nobody_listens_is_told_from_a_slow_one() -> None:
    pool = Pool(asyncio.get_running_loop(), "127.0.0.1", free_port())
    with pytest.raises(NobodyThere):
        await pool.connect()
