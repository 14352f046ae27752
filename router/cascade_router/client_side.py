"""What a client is told about where its request runs, and about failure."""

from cascade_policy import names
from cascade_policy.pins import Pin
from cascade_router.errors import UPSTREAM, Dialect, RequestError, error_events
from cascade_router.http1 import EVENT_STREAM, JSON
from cascade_router.legs import Refused
from cascade_router.membership import Member
from cascade_router.outcomes import Outcome
from cascade_router.passed import REQUEST_ID
from cascade_router.request import Generation
from cascade_router.server import ClientConnection

_OF_THE_ANSWER = ("metadata",)
"""Headers of the engine without which its answer cannot be read: where each embedding lies in an
answer of bytes."""


def begin(
    client: ClientConnection,
    request: Generation,
    member: Member,
    pin: Pin | None,
    headers: dict[str, str],
) -> None:
    """The head of an answer, once an instance has accepted the request."""
    kind = headers.get("content-type", EVENT_STREAM if request.streamed else JSON)
    head = [("content-type", kind)]
    if request.streamed:
        head.append(("cache-control", "no-cache"))
    head += _place(member, pin)
    head += [(name, headers[name]) for name in _OF_THE_ANSWER if name in headers]
    head.append((REQUEST_ID, request.request_id))
    # Without a length: an unstreamed answer may still have to be made again by another engine.
    client.begin(200, head)


def _place(member: Member, pin: Pin | None) -> list[tuple[str, str]]:
    """Where the answer comes from."""
    head = [(names.HEADER_STAGE, str(member.stage)), (names.HEADER_INSTANCE, member.name)]
    if pin is not None:
        head.append((names.HEADER_PINNED, pin.value))
        # Nothing that is pinned is ever handed over; how often others will be is not known yet.
        head.append((names.HEADER_HANDOVERS, "0"))
    return head


def pass_error(
    client: ClientConnection,
    request: Generation,
    refused: Refused,
    member: Member,
    pin: Pin | None,
) -> Outcome:
    """An engine's own error answer, as it came from `member`."""
    headers = _place(member, pin)
    headers += [
        (name, refused.headers[name]) for name in ("retry-after",) if name in refused.headers
    ]
    headers.append((REQUEST_ID, request.request_id))
    kind = refused.headers.get("content-type", JSON)
    client.respond(refused.status, refused.body, headers, kind)
    return Outcome.of(refused.status)


def refusal(refused: Refused) -> RequestError:
    """An engine's refusal as an error of ours."""
    return RequestError(refused.status, UPSTREAM, "the engine refused the request")


def broken(why: str) -> RequestError:
    """The request cannot be continued."""
    return RequestError(502, UPSTREAM, f"the request could not be completed: {why}")


def tell(client: ClientConnection, request: Generation, error: RequestError) -> None:
    """An error as a whole answer."""
    respond(client, error, request.dialect, request.request_id)


def respond(
    client: ClientConnection, error: RequestError, dialect: Dialect, request_id: str
) -> None:
    """An error as a whole answer, also to a request that could not be read."""
    headers = [*error.headers(), (REQUEST_ID, request_id)]
    client.respond(error.status, error.body(dialect), headers)


def in_band(request: Generation, error: RequestError) -> bytes:
    """An error inside a stream whose head is sent."""
    return error_events(error.status, error.kind, error.message, request.dialect)


def trace(number: int, source: int, target: int) -> bytes:
    """A comment that OpenAI clients pass over."""
    return b": cascade handover %d stage %d->%d\n\n" % (number, source, target)
