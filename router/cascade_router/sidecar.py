"""One sidecar, wired: its server, its engine, its peers, and its leaving."""

import asyncio
import contextlib
import logging
import random
from secrets import token_hex

from cascade_router import access_log, limits
from cascade_router.access_log import AccessLog
from cascade_router.api_keys import ApiKeys
from cascade_router.bans import Bans
from cascade_router.channel.target_end import TargetChannels
from cascade_router.config import Config, join_address
from cascade_router.connections import Connections
from cascade_router.dispatch import Dispatcher
from cascade_router.door import Door
from cascade_router.engine_metrics import EngineMetrics
from cascade_router.front import Front
from cascade_router.gate import Gate
from cascade_router.handover import Mover
from cascade_router.hop import KeyFile
from cascade_router.hop_side import HopSide
from cascade_router.leaving import POLL_SECONDS, Leaving
from cascade_router.measure import LengthGauge
from cascade_router.membership import View
from cascade_router.metrics import Metrics
from cascade_router.offers import Offers
from cascade_router.own_engine import OwnEngine
from cascade_router.peers import Peers
from cascade_router.pool import Pool
from cascade_router.server import ClientConnection
from cascade_router.state_page import StatePage
from cascade_router.tools import Tools
from cascade_router.tracing import tracing_of
from cascade_router.waiting import WaitingRoom

BACKLOG = 4096
CUT_OFF_SECONDS = 1.0
"""How long the end of requests whose connections are broken is waited for."""

_log = logging.getLogger(__name__)


class Sidecar:
    """Serves until it is stopped. Feed it views with `use`."""

    def __init__(self, config: Config, timing: limits.Timing | None = None) -> None:
        self._config = config
        self._timing = timing or limits.Timing()
        loop = asyncio.get_running_loop()
        self._pool = Pool(loop, config.engine_host, config.engine_port)
        keys = KeyFile(config.hop_key_file)
        self.tools = _tools(config, self._timing, self._pool, keys, loop)
        self._access_log: AccessLog | None = None
        if config.access_log:
            self._access_log = AccessLog(
                access_log.STDOUT, self.tools.metrics.line_dropped, access_log.MAX_LINES
            )
            self.tools.observers.append(self._access_log.write)
        own = self.tools.own
        self.hop_side = HopSide(own, self._pool, loop)
        self.channels = TargetChannels()
        self.connections = Connections(config.max_body_bytes)
        self.leaving = Leaving(
            own,
            self.connections,
            loop,
            config.service_uid,
            config.drain_seconds,
            self._timing.propagation,
        )
        gate = Gate(ApiKeys(config.api_keys_dir), loop, guards_metrics=config.metrics_auth)
        self.front = Front(
            self.tools,
            Door(keys, self.hop_side, self.channels, config.address, loop),
            gate,
            StatePage(config, self.tools, gate, self.connections, self.channels),
            self.leaving,
        )
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def use(self, view: View) -> None:
        """Work with a new view of the service."""
        tools = self.tools
        if view.leaving:
            self.leaving.begin("the pod is being deleted", final=True)
        tools.dispatcher.use(view)
        if view.stage_map is not None:
            tools.own.use(view.stage_map)
            tools.metrics.use(view.stage_map)
        for session in list(tools.sessions):
            session.view_changed()
        tools.dispatcher.greet()

    async def start(self) -> None:
        """Listen, and begin to look after timeouts and the engine."""
        loop, config = self.tools.loop, self._config
        self._server = await loop.create_server(
            lambda: ClientConnection(self.front, self.connections, loop),
            config.listen_host,
            config.listen_port,
            backlog=BACKLOG,
        )
        self._tasks = [
            loop.create_task(self.tools.own.watch()),
            loop.create_task(self.tools.own.look_after_batch()),
            loop.create_task(self._sweep()),
        ]
        _log.info("listening on %s:%d", config.listen_host, config.listen_port)

    def busy(self) -> int:
        """Answers that are under way, to clients and to fronts."""
        return self.connections.busy() + self.channels.busy()

    async def drain(self) -> None:
        """Leave: tell everybody, let what runs end, at most for the configured time.

        It listens to the last: the kubelet goes on probing a sidecar whose pod ends, and would kill
        one that does not answer, with the streams that it still relays.
        """
        self.leaving.begin("the process was told to stop", final=True)
        await asyncio.sleep(max(0.0, self.leaving.known_at - self.tools.loop.time()))
        await self._wait_for_streams(self.leaving.end)
        self._stop_listening()

    async def stop(self) -> None:
        """Break off what is left."""
        self._stop_listening()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for connection in list(self.connections.open):
            connection.hang_up()
        self.channels.close()
        self.tools.waiting.close()
        self.tools.peers.close()
        self._pool.close()
        await self._stop_telling()

    async def _stop_telling(self) -> None:
        """What is told of requests gets out, of those that were cut off as well, as far as somebody
        takes it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CUT_OFF_SECONDS):
                while self.tools.sessions:  # noqa: ASYNC110 - they end within a few turns of the loop
                    await asyncio.sleep(0.001)
        if self._access_log is not None:
            await asyncio.to_thread(self._access_log.close)
        await self.tools.tracing.close()

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _wait_for_streams(self, end: float) -> None:
        try:
            async with asyncio.timeout_at(end):
                promised = self.leaving.known_at + self._timing.propagation
                while self.busy() or (self.connections.open and self.tools.loop.time() < promised):
                    await self.connections.quiet()
                    await self.channels.quiet()
                    # Clients that do not know yet may send one more request each.
                    self.connections.sweep(self.tools.loop.time())
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            busy = self.busy()
            _log.warning("leaving with %d streams cut off: the grace period is over", busy)
        else:
            _log.info("leaving: nothing runs here any more")

    async def _sweep(self) -> None:
        """The one timer behind all timeouts."""
        tools = self.tools
        while True:
            await asyncio.sleep(limits.SWEEP_SECONDS)
            now = tools.loop.time()
            self.leaving.look(now)
            self.connections.sweep(now)
            self.channels.sweep(now)
            self._pool.sweep(now)
            tools.peers.sweep(now)
            tools.dispatcher.sweep(now)
            for session in list(tools.sessions):
                session.sweep(now)


def _tools(
    config: Config,
    timing: limits.Timing,
    pool: Pool,
    keys: KeyFile,
    loop: asyncio.AbstractEventLoop,
) -> Tools:
    """What serves all requests."""
    engine = join_address(config.engine_host, config.engine_port)
    bans, metrics, engine_metrics = Bans(), Metrics(), EngineMetrics()
    own = OwnEngine(pool, engine, loop, engine_metrics, config.max_prefix_tokens)
    peers = Peers(config.address, engine, pool, keys, loop)
    offers = Offers(loop, peers, own, bans, metrics, timing.bid_deadline)
    dispatcher = Dispatcher(loop, offers, peers, own, bans, random.random)
    return Tools(
        loop=loop,
        # A router that is started again must not take up the names of its predecessor.
        name=f"{config.pod_name}/{token_hex(4)}",
        peers=peers,
        own=own,
        bans=bans,
        dispatcher=dispatcher,
        waiting=WaitingRoom(loop, dispatcher, metrics, config.max_waiting, config.max_wait_seconds),
        mover=Mover(dispatcher),
        gauge=LengthGauge(peers, metrics, timing.tokenize),
        metrics=metrics,
        engine_metrics=engine_metrics,
        labels={"namespace": config.namespace, "service": config.service},
        timing=timing,
        tracing=tracing_of(config),
    )
