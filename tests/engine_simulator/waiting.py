"""Waits for conditions in tests."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 5.0) -> None:
    """Ask again every few milliseconds until the condition holds; fail after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    for _ in range(1_000_000):
        if await condition():
            return
        assert asyncio.get_running_loop().time() < deadline, "the condition never held"
        await asyncio.sleep(0.005)
