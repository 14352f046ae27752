"""Whole answers, for control calls."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from cascade_router import limits
from cascade_router.line import Line, Sink, Unreachable


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Collector:
    """Puts an answer together."""

    def __init__(self) -> None:
        self.done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._size = 0

    def head(self, status: int, headers: dict[str, str]) -> None:
        self._status, self._headers = status, headers

    def body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > limits.MAX_FETCH_BYTES:
            self.lost("the answer is too large")
            return
        self._parts.append(data)

    def leave_please(self, going: bool) -> None:
        """A control call takes no memory."""

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(Reply(self._status, self._headers, b"".join(self._parts)))

    def lost(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(Unreachable(reason))


async def reply(line_to: Callable[[Sink], Line], seconds: float) -> Reply:
    """The whole answer on a line. Raises Unreachable, also when it takes longer than `seconds`."""
    collector = _Collector()
    line = line_to(collector)
    try:
        async with asyncio.timeout(seconds):
            await line.send()
            return await collector.done
    except TimeoutError:
        raise Unreachable(f"no answer within {seconds:g} s") from None
    finally:
        if not line.over:
            line.abort()
