"""Questions that any engine can answer: its models, the tokens of a text, the text of tokens.

This pod's engine is asked, or others while it is not well. Nothing is booked for them, and they
are not counted as requests: they take no place in a batch.
"""

import asyncio
import logging
import random
from dataclasses import dataclass

from cascade_policy import names
from cascade_policy.candidates import sample
from cascade_router import client_side, faults, limits
from cascade_router.api import ApiPath
from cascade_router.errors import UNAVAILABLE, UPSTREAM, RequestError
from cascade_router.http1 import JSON, Request
from cascade_router.line import NoConnection, Unreachable
from cascade_router.membership import Member
from cascade_router.outbound import Outbound
from cascade_router.outcomes import Outcome
from cascade_router.passed import REQUEST_ID, Headers, passed_headers
from cascade_router.record import RequestRecord
from cascade_router.server import ClientConnection
from cascade_router.tools import Tools

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Reply:
    """An engine's answer, and the instance that gave it, as far as it is known."""

    status: int
    headers: dict[str, str]
    body: bytes
    member: Member | None


class Ask:
    """One question of a client."""

    def __init__(
        self,
        tools: Tools,
        client: ClientConnection,
        request: Request,
        served: ApiPath,
        record: RequestRecord,
    ) -> None:
        self._tools = tools
        self._client = client
        self._body = request.body if served.method == "POST" else b""
        self._served = served
        self._record = record
        passed = passed_headers(request.headers, record.request_id)
        self._passed: Headers = tools.tracing.headers(record, None, passed)
        self._task: asyncio.Task[None] = tools.loop.create_task(self._run())
        # Not in the task itself: one that is cancelled before its first step never runs at all.
        self._task.add_done_callback(self._close)

    async def _run(self) -> None:
        try:
            self._pass_on(await self._reply())
        except RequestError as error:
            self._fail(error)
        except Exception as error:
            _log.error("a question failed by a fault of the router: %s", faults.told(error))
            self._fail(RequestError(500, UPSTREAM, "the router failed; send the request again"))

    def _close(self, _: object) -> None:
        self._record.end(Outcome.of(self._record.status), self._tools.loop.time())
        self._tools.tell(self._record)

    def _fail(self, error: RequestError) -> None:
        self._record.status = error.status
        client_side.respond(self._client, error, self._served.dialect, self._record.request_id)

    def _pass_on(self, reply: _Reply) -> None:
        record = self._record
        record.status, record.member = reply.status, reply.member
        headers = [(REQUEST_ID, record.request_id)]
        if reply.member is not None:
            headers.append((names.HEADER_STAGE, str(reply.member.stage)))
            headers.append((names.HEADER_INSTANCE, reply.member.name))
        if "retry-after" in reply.headers:
            headers.append(("retry-after", reply.headers["retry-after"]))
        kind = reply.headers.get("content-type", JSON)
        self._client.respond(reply.status, reply.body, headers, kind)

    async def _reply(self) -> _Reply:
        """The first good answer, or the last one that was none. Raises RequestError when nobody
        answered at all."""
        reply = None
        why = "no instance is ready"
        if self._tools.own.available:
            try:
                reply = await self._ask_own()
            except Unreachable as error:
                self._tools.own.suspect()
                why = f"this instance's engine is away: {error}"
        for member in self._others():
            if reply is not None and reply.status < 500:
                return reply
            try:
                reply = await self._ask_other(member)
            except Unreachable as error:
                why = f"{member.name} is away: {error}"
        if reply is None:
            message = f"nobody could answer; {why}"
            raise RequestError(503, UNAVAILABLE, message, retry_after=limits.RETRY_AFTER_SECONDS)
        return reply

    async def _ask_own(self) -> _Reply:
        tools = self._tools
        reply = await tools.own.ask(self._outbound(), limits.ASK_SECONDS)
        members = filter(tools.peers.is_own, tools.dispatcher.view.members)
        return _Reply(reply.status, reply.headers, reply.body, next(members, None))

    async def _ask_other(self, member: Member) -> _Reply:
        tools = self._tools
        try:
            reply = await tools.peers.control(member, self._outbound(), limits.ASK_SECONDS)
        except NoConnection:
            tools.bans.failed(member.address, tools.loop.time())
            raise
        return _Reply(reply.status, reply.headers, reply.body, member)

    def _outbound(self) -> Outbound:
        served = self._served
        return Outbound(served.path, self._body, self._passed, served.method)

    def _others(self) -> list[Member]:
        """Whom to ask beside this pod's engine, in turn."""
        tools, now = self._tools, self._tools.loop.time()
        others = [
            member for member in tools.dispatcher.view.members if not tools.peers.is_own(member)
        ]
        good = [member for member in others if not tools.bans.banned(member.address, now)]
        return sample(good or others, limits.MOST_ASKED_OTHERS, random.random)

    # What the client does --------------------------------------------------------------------

    def client_gone(self) -> None:
        self._task.cancel()

    def client_slow(self) -> None:
        """One write: nothing to hold back."""

    def client_ready(self) -> None:
        """Nothing was held back."""
