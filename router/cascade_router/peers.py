"""How to reach an instance: its engine directly when it is this pod's, else over a channel to its
sidecar."""

import asyncio

from cascade_policy.arrival import Arrival, Purpose
from cascade_router.announce import write_arrival
from cascade_router.calls import Call
from cascade_router.channel.front_end import Answered, FrontChannel
from cascade_router.channel.registry import Channels, PeerLine
from cascade_router.endpoints import Member
from cascade_router.hop import KeyFile
from cascade_router.http1 import request_bytes
from cascade_router.line import Line, Sink
from cascade_router.outbound import Outbound
from cascade_router.pool import Pool
from cascade_router.replies import Reply, reply

_CONTROL = Arrival(purpose=Purpose.CONTROL)


class Peers:
    """Lines to instances."""

    def __init__(
        self,
        own_address: str,
        engine_address: str,
        pool: Pool,
        keys: KeyFile,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.own_address = own_address
        """Of this pod, as its peers see it."""
        self._engine_address = engine_address
        self._pool = pool
        self._channels = Channels(keys, loop)

    def is_own(self, member: Member) -> bool:
        """Whether `member` is this pod."""
        return member.address == self.own_address

    def line(self, member: Member, arrival: Arrival, request: Outbound, sink: Sink) -> Line:
        """A line for one request to the engine of `member`."""
        if self.is_own(member):
            data = request_bytes(
                request.method, request.path, self._engine_address, request.headers, request.body
            )
            return Call(self._pool, data, sink)
        announcement = write_arrival(arrival, request.method, request.path, request.headers)
        return PeerLine(self._channels, member.address, announcement, request.body, sink)

    async def control(self, member: Member, request: Outbound, seconds: float) -> Reply:
        """A control call to the engine of `member`. Raises Unreachable."""
        return await reply(lambda sink: self.line(member, _CONTROL, request, sink), seconds)

    def ask(self, member: Member, question: bytes, answered: Answered) -> None:
        """Ask another instance for an offer; `answered` is called once, empty without answer."""
        self._channels.ask(member.address, question, answered)

    def channels(self) -> list[FrontChannel]:
        """The channels to other sidecars, those that are still opening among them."""
        return self._channels.all()

    def sweep(self, now: float) -> None:
        """Look after channels that are silent or unused."""
        self._channels.sweep(now)

    def close(self) -> None:
        """Close all channels."""
        self._channels.close()
