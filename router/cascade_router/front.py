"""Which request goes where: the paths this sidecar serves to clients and to other sidecars."""

import asyncio
import logging
import time
from collections.abc import Callable

from cascade_policy.names import HEADER_HOP
from cascade_router.account import RequestAccount
from cascade_router.channel import handshake, target_end
from cascade_router.errors import FORBIDDEN, INVALID_REQUEST, NOT_FOUND, UNAVAILABLE, RequestError
from cascade_router.hop import HopKeyError, KeyFile, verify
from cascade_router.http1 import JSON, Request
from cascade_router.line import Unreachable
from cascade_router.metrics import CONTENT_TYPE, Outcome
from cascade_router.paths import GENERATION_PATHS
from cascade_router.request import parse
from cascade_router.server import ClientConnection, Exchange
from cascade_router.session import Session
from cascade_router.tools import Tools

MODELS_PATH = "/v1/models"
MODELS_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Front:
    """Answers requests. `draining` closes the door: nothing new is begun."""

    def __init__(self, tools: Tools, door: "Door") -> None:
        self._tools = tools
        self._door = door
        self.draining = False
        self.closed = False
        """Set some time after `draining`, when nobody should send requests here any more."""
        self._gets: dict[str, Callable[[ClientConnection], Exchange | None]] = {
            "/health": self._health,
            "/ready": self._ready,
            "/metrics": self._metrics,
            MODELS_PATH: self._models,
        }

    @property
    def ready(self) -> bool:
        """Whether clients should be sent here."""
        tools = self._tools
        return (
            not self.draining and tools.own.healthy and tools.dispatcher.view.stage_map is not None
        )

    def handle(self, client: ClientConnection, request: Request) -> Exchange | None:
        """Answer one request, now or by the exchange that is handed back."""
        if request.path == handshake.PATH:
            self._channel(client, request)
            return None
        if "upgrade" in request.headers:
            client.refuse(400, "protocol upgrades are not supported")
            return None
        if request.path in GENERATION_PATHS:
            return self._generate(client, request)
        get = self._gets.get(request.path)
        if get is None:
            client.error(RequestError(404, NOT_FOUND, f"there is no {request.path} here"))
            return None
        if request.method != "GET":
            self._wrong_method(client, request, "GET")
            return None
        return get(client)

    def _channel(self, client: ClientConnection, request: Request) -> None:
        """Another sidecar asks for a channel."""
        hop, door = request.headers.get(HEADER_HOP, ""), self._door
        if not door.trusts(hop, request.path):
            _log.warning("a request for a channel came with a hop header that is not ours")
            client.error(RequestError(403, FORBIDDEN, "the hop header is not valid"))
        elif not handshake.wants_channel(request.headers):
            client.error(RequestError(400, INVALID_REQUEST, "this path is for channels"))
        else:
            headers, protocol = door.accept(hop)
            client.switch(headers, protocol)

    def _generate(self, client: ClientConnection, request: Request) -> Exchange | None:
        if request.method != "POST":
            self._wrong_method(client, request, "POST")
            return None
        try:
            if self.closed:
                raise RequestError(503, UNAVAILABLE, "this instance is leaving", retry_after=1)
            stage_map = self._tools.dispatcher.view.stage_map
            enabled = stage_map is not None and stage_map.handoff.enabled
            generation = parse(request, enabled)
        except RequestError as error:
            self._reject(error)
            client.error(error)
            return None
        session = Session(self._tools, client, generation)
        session.start()
        return session

    def _reject(self, error: RequestError) -> None:
        now = self._tools.loop.time()
        outcome = Outcome.REJECTED if error.status < 500 else Outcome.FAILED
        RequestAccount(self._tools.metrics, now).close(outcome, None, 0, now)

    def _wrong_method(self, client: ClientConnection, request: Request, right: str) -> None:
        client.error(RequestError(405, INVALID_REQUEST, f"{request.path} is for {right}"))

    def _health(self, client: ClientConnection) -> None:
        client.respond(200, b'{"status":"ok"}')

    def _ready(self, client: ClientConnection) -> None:
        if self.ready:
            client.respond(200, b'{"status":"ready"}')
            return
        tools = self._tools
        if self.draining:
            why = "the sidecar is leaving"
        elif tools.dispatcher.view.stage_map is None:
            why = "no stage map has been seen"
        else:
            why = "the engine is not healthy"
        client.error(RequestError(503, UNAVAILABLE, f"not ready: {why}", retry_after=1))

    def _metrics(self, client: ClientConnection) -> None:
        for session in self._tools.sessions:
            session.sweep(self._tools.loop.time())
        client.respond(200, self._tools.metrics.render(), kind=CONTENT_TYPE)

    def _models(self, client: ClientConnection) -> Exchange:
        return _Models(client, self._tools)


class Door:
    """Where other sidecars come in."""

    def __init__(
        self,
        keys: KeyFile,
        service: target_end.Service,
        channels: target_end.TargetChannels,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._keys = keys
        self._service = service
        self._channels = channels
        self._loop = loop

    def trusts(self, hop: str, path: str) -> bool:
        """Whether a hop header was made by a sidecar of this service for `path`."""
        try:
            keys = self._keys.keys(self._loop.time())
        except HopKeyError:
            return False
        return verify(keys, hop, path, time.time())

    def accept(self, hop: str) -> tuple[list[tuple[str, str]], Callable[[], asyncio.Protocol]]:
        """The answer to a front that is trusted, and the protocol that takes over."""
        return target_end.accept(hop, self._keys, self._service, self._channels, self._loop)


class _Models:
    """The engine's own list of models."""

    def __init__(self, client: ClientConnection, tools: Tools) -> None:
        self._client = client
        self._tools = tools
        self._task: asyncio.Task[None] = tools.loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            answer = await self._tools.own.get(MODELS_PATH, MODELS_SECONDS)
        except Unreachable as error:
            self._client.error(
                RequestError(503, UNAVAILABLE, f"the engine is away: {error}", retry_after=1)
            )
            return
        kind = answer.headers.get("content-type", JSON)
        self._client.respond(answer.status, answer.body, kind=kind)

    def client_gone(self) -> None:
        self._task.cancel()

    def client_slow(self) -> None:
        """One small write: nothing to hold back."""

    def client_ready(self) -> None:
        """Nothing was held back."""
