"""Which request goes where: what this sidecar does for a path of the API, and for a peer."""

import logging
import time
from collections.abc import Callable

from cascade_policy.names import HEADER_HOP, LEAVE_PATH
from cascade_router import client_side
from cascade_router.account import RequestAccount
from cascade_router.api import (
    HEALTH_PATH,
    METRICS_PATH,
    PATHS,
    READY_PATH,
    STATE_PATH,
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
from cascade_router.gate import Gate
from cascade_router.http1 import Request
from cascade_router.leaving import Leaving
from cascade_router.metrics import Outcome
from cascade_router.passed import request_id
from cascade_router.record import RequestRecord
from cascade_router.request import check, no_stored_response, parse
from cascade_router.server import ClientConnection, Exchange
from cascade_router.session import Session
from cascade_router.state_page import StatePage
from cascade_router.tools import Tools

_STATE_IS_CLOSED = (
    "the state is shown to holders of an API key where keys are asked for, and to whoever runs "
    "`python3 -m cascade_router.show_state` in the router's container"
)
SHOWN_CHARACTERS = 200
"""What a log or an error repeats of a path."""

_log = logging.getLogger(__name__)


class Front:
    """Answers requests, as long as the process lives: one that leaves asks other instances."""

    def __init__(
        self,
        tools: Tools,
        door: Door,
        gate: Gate,
        state: StatePage,
        leaving: Leaving,
        max_body_bytes: int,
    ) -> None:
        self._tools = tools
        self._state_page = state
        self._max_body_bytes = max_body_bytes
        self._door = door
        self._gate = gate
        self._leaving = leaving
        self._own: dict[str, Callable[[ClientConnection], None]] = {
            HEALTH_PATH: self._health,
            READY_PATH: self._ready,
            METRICS_PATH: self._metrics,
            STATE_PATH: self._state,
        }

    @property
    def ready(self) -> bool:
        """Whether clients should be sent here."""
        return self._why_not_ready() is None

    def handle(self, client: ClientConnection, request: Request) -> Exchange | None:
        """Answer one request, now or by the exchange that is handed back."""
        if request.path == handshake.PATH:
            self._channel(client, request)
            return None
        if request.path == LEAVE_PATH and self._leaving.is_hook(request.headers):
            return self._leaving.hook(client)
        if "upgrade" in request.headers:
            client.refuse(400, "protocol upgrades are not supported")
            return None
        served = PATHS.get(request.path)
        record = self._record(client, request, served)
        refusal = self._refusal(request, served)
        if served is None or refusal is not None:
            self._refuse(client, record, refusal or _not_served(request))
            return None
        self._gate.strip(request.headers)
        if served.serving is not Serving.ROUTER:
            self._tools.tracing.begin(record, request.headers)
        match served.serving:
            case Serving.PLACED:
                return self._place(client, request, record)
            case Serving.ASKED:
                return self._ask(client, request, served, record)
            case Serving.ROUTER:
                self._own[request.path](client)
                return None

    def _channel(self, client: ClientConnection, request: Request) -> None:
        """Another sidecar asks for a channel."""
        hop, door = request.headers.get(HEADER_HOP, ""), self._door
        if not door.trusts(hop):
            _log.warning("a request for a channel came with a hop header that is not for us")
            client.error(RequestError(403, FORBIDDEN, "the hop header is not valid"))
        elif door.full:
            client.error(RequestError(503, UNAVAILABLE, "too many channels", retry_after=1))
        elif not handshake.wants_channel(request.headers):
            client.error(RequestError(400, INVALID_REQUEST, "this path is for channels"))
        else:
            headers, protocol = door.accept(hop)
            client.switch(headers, protocol)

    def _refusal(self, request: Request, served: ApiPath | None) -> RequestError | None:
        """Why a request is not let in, whatever its body says; None lets it in."""
        signed = self._signed(request)
        turned_away = self._gate.refusal(request.path, request.headers)
        if turned_away is not None and not signed:
            self._tools.metrics.unauthorized()
            return turned_away
        if served is None:
            return _not_served(request)
        if request.method != served.method:
            return _wrong_method(served)
        if request.path == STATE_PATH and not (signed or self._gate.asks):
            return RequestError(403, FORBIDDEN, _STATE_IS_CLOSED)
        if len(request.body) > self._max_body_bytes:
            return _too_large(self._max_body_bytes)
        return None

    def _signed(self, request: Request) -> bool:
        """Whether a request for the state was made by who holds the sidecars' key."""
        hop = request.headers.get(HEADER_HOP, "")
        return request.path == STATE_PATH and self._door.knows(hop, request.path)

    def _record(
        self, client: ClientConnection, request: Request, served: ApiPath | None
    ) -> RequestRecord:
        return RequestRecord(
            method=request.method,
            path=None if served is None else served.path,
            request_id=request_id(request.headers),
            client=client.peer,
            started=self._tools.loop.time(),
        )

    def _place(
        self, client: ClientConnection, request: Request, record: RequestRecord
    ) -> Exchange | None:
        try:
            stage_map = self._tools.dispatcher.view.stage_map
            enabled = stage_map is not None and stage_map.handoff.enabled
            generation = parse(request, enabled)
        except RequestError as error:
            outcome = Outcome.of(error.status)
            RequestAccount(self._tools.metrics, record).close(outcome, None, 0, record.started)
            self._refuse(client, record, error)
            return None
        session = Session(self._tools, client, generation, record)
        session.start()
        return session

    def _ask(
        self, client: ClientConnection, request: Request, served: ApiPath, record: RequestRecord
    ) -> Exchange | None:
        try:
            check(request)
        except RequestError as error:
            self._refuse(client, record, error)
            return None
        return Ask(self._tools, client, request, served, record)

    def _refuse(self, client: ClientConnection, record: RequestRecord, error: RequestError) -> None:
        """Answer with an error before any engine has seen the request."""
        dialect = Dialect.OPENAI if record.path is None else PATHS[record.path].dialect
        record.status = error.status
        record.end(Outcome.of(error.status), self._tools.loop.time())
        client_side.respond(client, error, dialect, record.request_id)
        self._tools.tell(record)

    def _health(self, client: ClientConnection) -> None:
        client.respond(200, b'{"status":"ok"}')

    def _ready(self, client: ClientConnection) -> None:
        why = self._why_not_ready()
        if why is None:
            client.respond(200, b'{"status":"ready"}')
        else:
            client.error(RequestError(503, UNAVAILABLE, f"not ready: {why}", retry_after=1))

    def _why_not_ready(self) -> str | None:
        tools = self._tools
        if tools.own.leaving:
            return "the sidecar is leaving"
        if tools.dispatcher.view.stage_map is None:
            return "no stage map has been seen"
        if not tools.own.healthy:
            return "the engine is not healthy"
        if self._gate.shut:
            return "there is no API key in the Secret, so every client is refused"
        return None

    def _state(self, client: ClientConnection) -> None:
        client.respond(200, self._state_page.render(time.time()))

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


def _too_large(limit: int) -> RequestError:
    return RequestError(413, INVALID_REQUEST, f"the body is larger than {limit} bytes")
