"""kopf, used for what it does best: watching. The only file that knows it.

Its handlers only wake the task of a CascadeService. They keep nothing, write nothing, and nobody
decides by what they saw: after a broken watch a deleted object may never be reported.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import chain, repeat
from typing import Any, Final

import kopf

from cascade_operator import kinds
from cascade_operator.kinds import Kind
from cascade_policy import names

Wake = Callable[[str, str, str], None]
"""Wakes the task of (namespace, name) because of an object of that plural."""

CHILDREN: Final = (
    kinds.DEPLOYMENT,
    kinds.REPLICA_SET,
    kinds.POD,
    kinds.SERVICE,
    kinds.CONFIG_MAP,
)
"""What belongs to CascadeServices and is watched beside them."""

_IDLE_SECONDS: Final = 0.1
"""How long a worker of kopf waits for another event of its object: a wake-up takes no time."""
_PAGE: Final = 100
"""Objects per page of kopf's first list: a page is held as dictionaries, ten times its size."""


class _Pauses:
    """Seconds between tries of a request that is refused or gets no answer, without an end: a watch
    that gives up is never begun again, and nobody would notice."""

    def __iter__(self) -> Iterator[float]:
        return chain((1.0, 1.0, 2.0, 3.0, 5.0), repeat(10.0))


class _NoRefusals(logging.Filter):
    """Drops what kopf says at each try for each kind: `reach` says it once, and what to do."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "APIForbiddenError" not in record.getMessage()


class Watch:
    """The running watches. They live in a thread with an event loop of its own, because kopf takes
    over the signals of the main thread and, at its end, cancels every task of its loop.
    """

    def __init__(self, wake: Wake, namespaces: Sequence[str]) -> None:
        self._stop: Future[None] = Future()
        ready: Future[None] = Future()
        ended: Future[None] = Future()
        loop = asyncio.get_running_loop()
        logging.getLogger("kopf._cogs.clients.watching").addFilter(_NoRefusals())

        def wake_in_loop(namespace: str, name: str, plural: str) -> None:
            # Once the main loop is closed there is nobody left to wake.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(wake, namespace, name, plural)

        def run() -> None:
            try:
                kopf.run(
                    registry=_registry(wake_in_loop),
                    settings=_settings(),
                    clusterwide=not namespaces,
                    namespaces=namespaces,
                    standalone=True,
                    ready_flag=ready,
                    stop_flag=self._stop,
                )
                ended.set_result(None)
            except BaseException as error:
                ended.set_exception(error)

        self.ready = asyncio.wrap_future(ready)
        """Done when the watches are up."""
        self.ended = asyncio.wrap_future(ended)
        """Done when the watches ended; with the error that ended them, if there was one."""
        threading.Thread(target=run, name="kopf", daemon=True).start()

    def stop(self) -> None:
        """Ask the watches to end. Nothing has to wait for it."""
        if not self._stop.done():
            self._stop.set_result(None)


def _registry(wake: Wake) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry, id="login")
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry, id="service")
    async def service_changed(*, namespace: str | None, name: str, **_: Any) -> None:
        wake(namespace or "", name, names.PLURAL)

    for kind in CHILDREN:
        _watch_children(registry, kind, wake)
    return registry


def _watch_children(registry: kopf.OperatorRegistry, kind: Kind, wake: Wake) -> None:
    where = (kind.group, kind.version, kind.plural) if kind.group else (kind.version, kind.plural)

    @kopf.on.event(*where, registry=registry, id=kind.plural)
    async def child_changed(*, namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:
        service = labels.get(names.LABEL_SERVICE)
        if service:
            wake(namespace or "", service, kind.plural)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.persistence.finalizer = f"{names.DOMAIN}/unused"
    settings.process.ultimate_exiting_timeout = 10.0
    settings.networking.error_backoffs = _Pauses()
    # Per object kopf keeps a worker, and until there is one the events of the object wait, whole:
    # with few workers that linger, a thousand pods are minutes behind and hundreds of megabytes.
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = _IDLE_SECONDS
    settings.watching.chunk_size = _PAGE
    # Selected by the API server: pods of others are neither sent nor parsed.
    for kind in CHILDREN:
        key = (kind.group, kind.version, kind.plural)
        settings.watching.label_selectors[key] = names.LABEL_SERVICE
    return settings
