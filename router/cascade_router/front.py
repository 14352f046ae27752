"""Which request goes where: what this sidecar does for a path of the API, and for a peer."""

import logging
from collections.abc import Callable

from cascade_policy.names import HEADER_HOP
from cascade_router import client_side
from cascade_router.account import RequestAccount
from cascade_router.api import (
    HEALTH_PATH,
    METRICS_PATH,
    PATHS,
    READY_PATH,
    ApiPath,
    Serving,
    is_stored_response,
)
from cascade_router.asks import Ask
from cascade_router.channel import handshake
from cascade_router.door import Door
from cascade_router.errors import (
    FORBIDDEN,
    INVALID_REQUEST,
    NOT_FOUND,
    UNAVAILABLE,
    Dialect,
    RequestError,
)
from cascade_router.exposition import CONTENT_TYPE
from cascade_router.http1 import Request
from cascade_router.metrics import Outcome
from cascade_router.passed import request_id
from cascade_router.request import check, no_stored_response, parse
from cascade_router.server import ClientConnection, Exchange
from cascade_router.session import Session
from cascade_router.tools import Tools

SHOWN_CHARACTERS = 200
"""What a log or an error repeats of a path."""

_log = logging.getLogger(__name__)


class Front:
    """Answers requests. `draining` closes the door: nothing new is begun."""

    def __init__(self, tools: Tools, door: "Door") -> None:
        self._tools = tools
        self._door = door
        self.draining = False
        self.closed = False
        """Set some time after `draining`, when nobody should send requests here any more."""
        self._own: dict[str, Callable[[ClientConnection], None]] = {
            HEALTH_PATH: self._health,
            READY_PATH: self._ready,
            METRICS_PATH: self._metrics,
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
        served = PATHS.get(request.path)
        if served is None:
            self._refuse(client, request, _not_served(request))
            return None
        if request.method != served.method:
            self._refuse(client, request, _wrong_method(served))
            return None
        match served.serving:
            case Serving.PLACED:
                return self._place(client, request)
            case Serving.ASKED:
                return self._ask(client, request, served)
            case Serving.ROUTER:
                self._own[request.path](client)
                return None

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

    def _place(self, client: ClientConnection, request: Request) -> Exchange | None:
        try:
            self._refuse_late()
            stage_map = self._tools.dispatcher.view.stage_map
            enabled = stage_map is not None and stage_map.handoff.enabled
            generation = parse(request, enabled)
        except RequestError as error:
            self._count_rejected(error)
            self._refuse(client, request, error)
            return None
        session = Session(self._tools, client, generation)
        session.start()
        return session

    def _ask(self, client: ClientConnection, request: Request, served: ApiPath) -> Exchange | None:
        try:
            self._refuse_late()
            check(request)
        except RequestError as error:
            self._refuse(client, request, error)
            return None
        return Ask(self._tools, client, request, served, request_id(request.headers))

    def _refuse_late(self) -> None:
        if self.closed:
            raise RequestError(503, UNAVAILABLE, "this instance is leaving", retry_after=1)

    def _refuse(self, client: ClientConnection, request: Request, error: RequestError) -> None:
        """Answer with an error before any engine has seen the request."""
        served = PATHS.get(request.path)
        dialect = Dialect.OPENAI if served is None else served.dialect
        client_side.respond(client, error, dialect, request_id(request.headers))

    def _count_rejected(self, error: RequestError) -> None:
        now = self._tools.loop.time()
        outcome = Outcome.REJECTED if error.status < 500 else Outcome.FAILED
        RequestAccount(self._tools.metrics, now).close(outcome, None, 0, now)

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
        client.respond(200, self._tools.metrics_page(), kind=CONTENT_TYPE)


def _not_served(request: Request) -> RequestError:
    if is_stored_response(request.method, request.path):
        return no_stored_response(request.path.split("/")[3])
    return RequestError(404, NOT_FOUND, f"there is no {request.path[:SHOWN_CHARACTERS]} here")


def _wrong_method(served: ApiPath) -> RequestError:
    message = f"{served.path} is for {served.method}"
    return RequestError(405, INVALID_REQUEST, message, extra=[("allow", served.method)])
