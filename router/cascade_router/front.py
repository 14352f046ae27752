"""Which request goes where: what this sidecar does for a path of the API, and for a peer."""

import logging
import time
from collections.abc import Callable

from cascade_policy.names import HEADER_HOP, LEAVE_PATH
from cascade_router import client_side, limits
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
from cascade_router.outcomes import Outcome
from cascade_router.passed import request_id
from cascade_router.record import RequestRecord
from cascade_router.request import check, no_stored_response, parse
from cascade_router.request_head import Head
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
        self, tools: Tools, door: Door, gate: Gate, state: StatePage, leaving: Leaving
    ) -> None:
        self._tools = tools
        self._state_page = state
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

    def admit(self, client: ClientConnection, head: Head) -> RequestError | None:  # noqa: ARG002
        """Why a request is not let in, whatever its body says; None lets it in."""
        if head.path == handshake.PATH:
            return self._channel_refusal(head)
        if self._is_hook(head):
            return None
        served = PATHS.get(head.path)
        signed = self._signed(head)
        turned_away = self._gate.refusal(head.path, head.headers)
        if turned_away is not None and not signed:
            self._tools.metrics.unauthorized()
            return turned_away
        if served is None:
            return _not_served(head)
        if head.method != served.method and head.method not in served.methods:
            return _wrong_method(served)
        if head.path == STATE_PATH and not (signed or self._gate.asks):
            return RequestError(403, FORBIDDEN, _STATE_IS_CLOSED)
        return None

    def refuse(self, client: ClientConnection, head: Head, error: RequestError) -> None:
        """Answer a request that is not let in, or whose body cannot be read."""
        if head.path == handshake.PATH:
            client.error(error)
        else:
            self._refuse(client, self._record(client, head), error)

    def handle(self, client: ClientConnection, request: Request) -> Exchange | None:
        """Answer a request that was let in, now or by the exchange that is handed back."""
        if request.path == handshake.PATH:
            client.switch(*self._door.accept(request.headers[HEADER_HOP]))
            return None
        if request.path == LEAVE_PATH:
            return self._leaving.hook(client)
        served = PATHS[request.path]
        if served.serving is Serving.ROUTER:
            self._own[request.path](client)
            return None
        record = self._record(client, request)
        self._gate.strip(request.headers)
        self._tools.tracing.begin(record, request.headers)
        if served.serving is Serving.PLACED:
            return self._place(client, request, record)
        return self._ask(client, request, served, record)

    def _channel_refusal(self, head: Head) -> RequestError | None:
        """Why another sidecar gets no channel."""
        if not self._door.trusts(head.headers.get(HEADER_HOP, "")):
            _log.warning("a request for a channel came with a hop header that is not for us")
            return RequestError(403, FORBIDDEN, "the hop header is not valid")
        if self._door.full:
            return RequestError(503, UNAVAILABLE, "too many channels", retry_after=1)
        if head.method != "GET" or head.length != 0 or head.upgrade != handshake.PROTOCOL:
            return RequestError(400, INVALID_REQUEST, "this path is for channels")
        return None

    def _is_hook(self, head: Head) -> bool:
        """Whether the kubelet asks when it may stop the engine."""
        return (
            head.path == LEAVE_PATH
            and (head.method, head.length) == ("GET", 0)
            and self._leaving.is_hook(head.headers)
        )

    def _signed(self, head: Head) -> bool:
        """Whether a request for the state was made by who holds the sidecars' key."""
        hop = head.headers.get(HEADER_HOP, "")
        return head.path == STATE_PATH and self._door.knows(hop, head.path)

    def _record(self, client: ClientConnection, request: Head | Request) -> RequestRecord:
        served = PATHS.get(request.path)
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
            self._refuse_too_much(len(request.body))
            generation = parse(request, enabled)
        except RequestError as error:
            outcome = Outcome.of(error.status)
            RequestAccount(self._tools.metrics, record).close(outcome, None, 0, record.started)
            self._refuse(client, record, error)
            return None
        session = Session(self._tools, client, generation, record)
        session.start()
        return session

    def _refuse_too_much(self, size: int) -> None:
        """Requests that have no part of their answer yet keep their bodies: so many fit."""
        if self._tools.held_bytes + size > limits.MAX_HELD_BYTES:
            raise RequestError(
                503, UNAVAILABLE, "too many large requests are served at once", retry_after=1
            )

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


def _not_served(head: Head) -> RequestError:
    if is_stored_response(head.method, head.path):
        return no_stored_response(head.path.split("/")[3])
    return RequestError(404, NOT_FOUND, f"there is no {head.path[:SHOWN_CHARACTERS]} here")


def _wrong_method(served: ApiPath) -> RequestError:
    message = f"{served.path} is for {served.method}"
    return RequestError(405, INVALID_REQUEST, message, extra=[("allow", ", ".join(served.methods))])
