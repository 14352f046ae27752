"""Which request goes where: the paths this sidecar serves to clients and to other sidecars."""

import asyncio
import logging
from collections.abc import Callable

from cascade_policy.accounting import CHAT_PATH, COMPLETIONS_PATH
from cascade_policy.names import HEADER_HOP
from cascade_router import hop_side
from cascade_router.account import RequestAccount
from cascade_router.calls import fetch
from cascade_router.errors import FORBIDDEN, INVALID_REQUEST, NOT_FOUND, UNAVAILABLE, RequestError
from cascade_router.http1 import JSON, Request, request_bytes
from cascade_router.metrics import CONTENT_TYPE, Outcome
from cascade_router.peers import BID_PATH
from cascade_router.request import parse
from cascade_router.server import ClientConnection, Exchange
from cascade_router.session import Session
from cascade_router.tools import Tools
from cascade_router.upstream import Unreachable

MODELS_PATH = "/v1/models"
MODELS_SECONDS = 5.0
GENERATION_PATHS = frozenset({COMPLETIONS_PATH, CHAT_PATH})

_log = logging.getLogger(__name__)


class Front:
    """Answers requests. `draining` closes the door: nothing new is begun."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
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
        hop = request.headers.get(HEADER_HOP)
        if hop is not None:
            return self._hop(client, request, hop)
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

    def _hop(self, client: ClientConnection, request: Request, hop: str) -> Exchange | None:
        tools = self._tools
        if not tools.peers.trusts(hop, request.path):
            _log.warning("a request for %s came with a hop header that is not ours", request.path)
            client.error(RequestError(403, FORBIDDEN, "the hop header is not valid"))
            return None
        if request.path == BID_PATH:
            hop_side.bid(client, tools.own, self.draining)
            return None
        return hop_side.accept(client, request, tools.own, tools.pool, tools.loop)

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


class _Models:
    """The engine's own list of models."""

    def __init__(self, client: ClientConnection, tools: Tools) -> None:
        self._client = client
        self._tools = tools
        self._task: asyncio.Task[None] = tools.loop.create_task(self._run())

    async def _run(self) -> None:
        own = self._tools.own
        request = request_bytes("GET", MODELS_PATH, own.address, (), b"")
        try:
            status, headers, body = await fetch(
                self._tools.pool, own.address, request, MODELS_SECONDS
            )
        except Unreachable as error:
            self._client.error(
                RequestError(503, UNAVAILABLE, f"the engine is away: {error}", retry_after=1)
            )
            return
        self._client.respond(status, body, kind=headers.get("content-type", JSON))

    def client_gone(self) -> None:
        self._task.cancel()

    def client_slow(self) -> None:
        """One small write: nothing to hold back."""

    def client_ready(self) -> None:
        """Nothing was held back."""
