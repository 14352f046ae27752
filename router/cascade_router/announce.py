"""How questions and arrivals travel on a channel: JSON with short names."""

from typing import Any

import msgspec

from cascade_policy.arrival import Arrival, Purpose, Question
from cascade_policy.load import InvalidLoad
from cascade_policy.offer import Offer
from cascade_policy.prefix_index import Block
from cascade_router.passed import Headers, passed_on

Blocks = tuple[tuple[int, int], ...]


class InvalidAnnouncement(Exception):
    """The other side sent something else; the message says what is wrong with it."""


class _Question(msgspec.Struct, frozen=True, omit_defaults=True):
    length: int = msgspec.field(name="l", default=0)
    prefix: Blocks = msgspec.field(name="p", default=())
    sequence: str = msgspec.field(name="s", default="")
    reserve: bool = msgspec.field(name="r", default=False)


class _Arrival(msgspec.Struct, frozen=True, omit_defaults=True):
    method: str = msgspec.field(name="m")
    path: str = msgspec.field(name="at")
    headers: Headers = msgspec.field(name="h", default=())
    length: int = msgspec.field(name="l", default=0)
    remaining: float = msgspec.field(name="n", default=0.0)
    bid: float | None = msgspec.field(name="b", default=None)
    purpose: Purpose = msgspec.field(name="w", default=Purpose.FIRST)
    prefix: Blocks = msgspec.field(name="p", default=())
    sequence: str = msgspec.field(name="s", default="")
    blind: bool = msgspec.field(name="x", default=False)
    movable: bool = msgspec.field(name="v", default=False)


_questions = msgspec.json.Decoder(_Question)
_arrivals = msgspec.json.Decoder(_Arrival)
_offers = msgspec.json.Decoder(dict[str, Any])


def write_question(question: Question) -> bytes:
    """A question as it travels."""
    return msgspec.json.encode(
        _Question(question.length, question.prefix, question.sequence, question.reserve)
    )


def read_question(data: bytes) -> Question:
    """Raises InvalidAnnouncement."""
    try:
        read = _questions.decode(data)
    except msgspec.MsgspecError as error:
        raise InvalidAnnouncement(f"a question that cannot be read: {error}") from None
    return Question(max(0, read.length), _blocks(read.prefix), read.sequence, read.reserve)


def write_arrival(arrival: Arrival, method: str, path: str, headers: Headers) -> bytes:
    """What announces a request for `path` that carries `headers`."""
    return msgspec.json.encode(
        _Arrival(
            method,
            path,
            headers,
            arrival.length,
            arrival.remaining,
            arrival.bid,
            arrival.purpose,
            arrival.prefix,
            arrival.sequence,
            arrival.blind,
            arrival.movable,
        )
    )


def read_arrival(data: bytes) -> tuple[Arrival, str, str, Headers]:
    """(arrival, method, path, headers). Raises InvalidAnnouncement."""
    try:
        read = _arrivals.decode(data)
    except msgspec.MsgspecError as error:
        raise InvalidAnnouncement(f"an announcement that cannot be read: {error}") from None
    arrival = Arrival(
        length=max(0, read.length),
        remaining=max(0.0, read.remaining),
        bid=read.bid,
        purpose=read.purpose,
        prefix=_blocks(read.prefix),
        sequence=read.sequence,
        blind=read.blind,
        movable=read.movable,
    )
    return arrival, read.method, read.path, passed_on(read.headers)


def write_offer(offer: Offer) -> bytes:
    """An offer as it travels."""
    return msgspec.json.encode(offer.to_wire())


def read_offer(data: bytes) -> Offer:
    """Raises InvalidAnnouncement."""
    try:
        return Offer.from_wire(_offers.decode(data))
    except (InvalidLoad, msgspec.MsgspecError) as error:
        raise InvalidAnnouncement(f"an offer that cannot be read: {error}") from None


def _blocks(pairs: Blocks) -> tuple[Block, ...]:
    return tuple(Block(*pair) for pair in pairs)
