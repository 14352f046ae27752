"""LIST and WATCH of one kind of object, for ever, in plain JSON.

The package's own watch turns every event into model objects and back; a sidecar needs four fields
of each, so this one hands on what json.loads makes of it.
"""

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, NoReturn, Protocol

import aiohttp
from kubernetes.aio.client import ApiException

WATCH_SECONDS: Final = 240
"""How long one watch request lasts; then the next one goes on where it ended."""
SILENCE_SECONDS: Final = 100.0
"""A healthy API server sends a bookmark every minute; a longer silence is a dead connection."""
LIST_SECONDS: Final = 30.0
FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 5.0
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
GONE: Final = 410

_log = logging.getLogger(__name__)

Call = Callable[..., Awaitable[aiohttp.ClientResponse]]
"""A generated list method in its `..._without_preload_content` form."""


class Watched(Protocol):
    """Receives what is watched. Its methods must not raise on odd objects."""

    def listed(self, items: list[Any]) -> None:
        """All objects there are."""

    def changed(self, item: Any) -> None:
        """An object was added or changed."""

    def removed(self, item: Any) -> None:
        """An object was deleted."""


class UnexpectedAnswer(Exception):
    """The API server sent something that is no list and no event."""


async def follow(call: Call, selector: Mapping[str, str], watched: Watched, what: str) -> NoReturn:
    """Keep `watched` up to date until cancelled; failures are logged, waited out and retried.

    `selector` holds the arguments of `call`, such as namespace and label_selector; `what` names
    the objects in the log.
    """
    loop = asyncio.get_running_loop()
    version: str | None = None
    delay = 0.0
    while True:
        started = loop.time()
        try:
            if version is None:
                version = await _list(call, selector, watched)
            async with aclosing(_events(call, selector, version)) as events:
                async for event in events:
                    version = _deliver(event, watched) or version
                    delay = 0.0
        except ApiException as error:
            if error.status == GONE:
                version = None
            _report(delay, what, f"the API server answers {error.status} {error.reason}")
        except (UnexpectedAnswer, ValueError) as error:
            version = None
            _report(delay, what, repr(error))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            _report(delay, what, repr(error))
        if loop.time() - started < LONGEST_DELAY_SECONDS:
            delay = min(max(2 * delay, FIRST_DELAY_SECONDS), LONGEST_DELAY_SECONDS)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))


def _report(delay: float, what: str, problem: str) -> None:
    """Log a failure: the first of a row aloud, its repetitions only when debugging."""
    level = logging.DEBUG if delay else logging.WARNING
    _log.log(level, "watching %s: %s; the last known state holds meanwhile", what, problem)


async def _list(call: Call, selector: Mapping[str, str], watched: Watched) -> str:
    async with asyncio.timeout(LIST_SECONDS):
        response = await call(**selector)
        try:
            _check(response)
            body = json.loads(await response.read())
        finally:
            response.release()
    version = body.get("metadata", {}).get("resourceVersion") if isinstance(body, dict) else None
    if not isinstance(version, str):
        raise UnexpectedAnswer("no list")
    watched.listed(body.get("items") or [])
    return version


async def _events(
    call: Call, selector: Mapping[str, str], version: str
) -> AsyncGenerator[Any, None]:
    """The events after `version`, until the server ends the watch."""
    response = await call(
        **selector,
        watch=True,
        resource_version=version,
        allow_watch_bookmarks=True,
        timeout_seconds=WATCH_SECONDS,
        _request_timeout=WATCH_SECONDS + LIST_SECONDS,
    )
    try:
        _check(response)
        pending = b""
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                chunk = await response.content.readany()
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            if len(pending) > MAX_EVENT_BYTES:
                raise UnexpectedAnswer(f"an event of more than {MAX_EVENT_BYTES} bytes")
            for line in lines:
                if line.strip():
                    yield json.loads(line)
    finally:
        response.close()


def _deliver(event: Any, watched: Watched) -> str | None:
    """Hand an event on; returns the version to go on from. Raises ApiException for an ERROR."""
    kind, item = (event.get("type"), event.get("object")) if isinstance(event, dict) else ("", None)
    if not isinstance(item, dict):
        raise UnexpectedAnswer("no event")
    if kind == "ERROR":
        raise ApiException(status=item.get("code"), reason=item.get("message"))
    if kind in ("ADDED", "MODIFIED"):
        watched.changed(item)
    elif kind == "DELETED":
        watched.removed(item)
    version = (item.get("metadata") or {}).get("resourceVersion")
    return str(version) if version else None


def _check(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise ApiException(status=response.status, reason=response.reason)
