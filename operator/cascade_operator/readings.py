"""Asks Prometheus in the background: no pass waits for an answer, and the newest one counts."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from cascade_operator.faults import PrometheusError
from cascade_operator.prometheus import TrafficReader
from cascade_operator.traffic import Reading

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and for which generation of the spec."""

    url: str
    namespace: str
    service: str
    window_seconds: int
    generation: int


class Readings:
    """The answers about one CascadeService. `wake` is called when there is a new one."""

    def __init__(self, reader: TrafficReader, wake: Callable[[], None]) -> None:
        self._reader = reader
        self._wake = wake
        self._task: asyncio.Task[None] | None = None
        self._asked: Question | None = None
        self._answer: Reading | PrometheusError | None = None

    @property
    def asking(self) -> bool:
        """Whether an answer is on its way."""
        return self._task is not None and not self._task.done()

    def ask(self, question: Question) -> None:
        """Ask, unless the same is being asked. Another question that is on its way is given up."""
        if self.asking and question == self._asked:
            return
        self.stop()
        self._asked, self._answer = question, None
        self._task = asyncio.create_task(self._read(question), name=f"reading of {question.url}")

    def take(self, question: Question) -> Reading | PrometheusError | None:
        """The answer to `question` if it came since the last call; None otherwise."""
        if question != self._asked:
            return None
        answer, self._answer = self._answer, None
        return answer

    def stop(self) -> None:
        """Give up what is being asked."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _read(self, question: Question) -> None:
        try:
            answer: Reading | PrometheusError = await self._reader.read(
                question.url, question.namespace, question.service, question.window_seconds
            )
        except PrometheusError as error:
            answer = error
        except Exception:
            where = f"{question.namespace}/{question.service}"
            log.exception("%s: reading Prometheus ended unexpectedly", where)
            answer = PrometheusError("reading Prometheus failed: the operator's log says how")
        # A question that was given up may end after the next one was asked.
        if question == self._asked:
            self._answer = answer
            self._wake()
