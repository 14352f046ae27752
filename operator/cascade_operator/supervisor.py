"""Keeps one running task per CascadeService that someone woke."""

import asyncio
import logging
from collections.abc import Callable

from cascade_operator import kinds
from cascade_operator.health import Vitals
from cascade_operator.service_task import ServiceTask

log = logging.getLogger(__name__)


class Supervisor:
    """Wakes tasks, starts those that do not run, and forgets those that ended."""

    def __init__(self, make: Callable[[str, str], ServiceTask], vitals: Vitals) -> None:
        self._make = make
        self._vitals = vitals
        self._stopped = False
        self._running: dict[tuple[str, str], tuple[ServiceTask, asyncio.Task[None]]] = {}

    def wake(self, namespace: str, name: str, plural: str) -> None:
        """An object of that kind that belongs to the CascadeService changed."""
        if self._stopped:
            return
        key = (namespace, name)
        running = self._running.get(key)
        # A task that is done is still listed until the loop runs its callback.
        if running is None or running[1].done():
            service = self._make(namespace, name)
            task = asyncio.create_task(service.run(), name=f"{namespace}/{name}")
            self._running[key] = (service, task)
            task.add_done_callback(lambda done: self._ended(key, done))
            self._vitals.services = len(self._running)
        self._running[key][0].wake(children=plural == kinds.SERVICE.plural)

    async def stop(self) -> None:
        """Cancel all tasks and wait until they ended; the watches may go on for a moment, and wake
        nobody any more."""
        self._stopped = True
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        if (running := self._running.get(key)) is not None and running[1] is task:
            del self._running[key]
        self._vitals.services = len(self._running)
        if not task.cancelled() and task.exception() is not None:
            log.error("the task of %s/%s ended: %r", *key, task.exception())
