"""How to reach an instance: its engine directly when it is this pod's, else its sidecar by a hop.

A hop is signed, and tells the target what it is about to get, so that it can enter the sequence in
its book before the engine has seen it.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from cascade_policy import names
from cascade_router.config import Config
from cascade_router.errors import UNAVAILABLE, RequestError
from cascade_router.hop import HopKeyError, KeyFile, sign, verify
from cascade_router.http1 import request_bytes
from cascade_router.membership import Member
from cascade_router.passed import Headers

BID_PATH: Final = "/_cascade/bid"
HEADER_DISPATCH: Final = "x-cascade-dispatch"
HEADER_REBID: Final = "x-cascade-rebid"


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What a hop announces: tokens of the sequence now, tokens expected, and the price that was
    bid (None: the target takes it whatever its price is now)."""

    length: int
    remaining: float
    bid: float | None

    def header(self) -> str:
        """The header's value."""
        bid = "-" if self.bid is None else f"{self.bid:.1f}"
        return f"{self.length};{self.remaining:.1f};{bid}"

    @classmethod
    def parse(cls, value: str) -> "Dispatch":
        """Read the header's value; anything unexpected reads as an unknown sequence."""
        try:
            length, remaining, bid = value.split(";")
            return cls(max(0, int(length)), float(remaining), None if bid == "-" else float(bid))
        except ValueError:
            return cls(0, 0.0, None)


class Peers:
    """Requests to instances, signed where they leave this pod."""

    def __init__(
        self, config: Config, engine_address: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._own_address = config.address
        self._engine_address = engine_address
        self._nonce = config.pod_name.replace(".", "-")
        self._keys = KeyFile(config.hop_key_file)
        self._loop = loop

    def is_own(self, member: Member) -> bool:
        """Whether `member` is this pod."""
        return member.address == self._own_address

    def address(self, member: Member) -> str:
        """Where requests for `member` go."""
        return self._engine_address if self.is_own(member) else member.address

    def generation(
        self, member: Member, path: str, body: bytes, dispatch: Dispatch, passed: Headers = ()
    ) -> bytes:
        """A generation request for `member`; `passed` are the client's headers for its engine.
        Raises RequestError without a hop key."""
        if self.is_own(member):
            return request_bytes("POST", path, self._engine_address, passed, body)
        headers = [
            (names.HEADER_HOP, self._signature(path)),
            (HEADER_DISPATCH, dispatch.header()),
            *passed,
        ]
        return request_bytes("POST", path, member.address, headers, body)

    def control(
        self, member: Member, method: str, path: str, body: bytes = b"", passed: Headers = ()
    ) -> bytes:
        """A bid, or a call like `/tokenize`. Raises RequestError without a hop key."""
        if self.is_own(member) and path != BID_PATH:
            return request_bytes(method, path, self._engine_address, passed, body)
        headers = [(names.HEADER_HOP, self._signature(path)), *passed]
        return request_bytes(method, path, member.address, headers, body)

    def trusts(self, value: str, path: str) -> bool:
        """Whether a hop header was made by a sidecar of this service for `path`."""
        try:
            keys = self._keys.keys(self._loop.time())
        except HopKeyError:
            return False
        return verify(keys, value, path, time.time())

    def _signature(self, path: str) -> str:
        try:
            key = self._keys.keys(self._loop.time())[0]
        except HopKeyError as error:
            raise RequestError(503, UNAVAILABLE, str(error), retry_after=1) from None
        return sign(key, path, time.time(), self._nonce)
