"""Which tasks run."""

import asyncio
from typing import cast

from cascade_operator import kinds
from cascade_operator.health import Vitals
from cascade_operator.service_task import ServiceTask
from cascade_operator.supervisor import Supervisor


class Task:
    """Runs until it is told that its CascadeService is gone."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.wakes = 0

    def wake(self, *, children: bool = False) -> None:
        del children
        self.wakes += 1

    async def run(self) -> None:
        await self.gone.wait()


async def test_a_wake_after_the_end_of_a_task_starts_a_new_one() -> None:
    made: list[Task] = []

    def make(*_: str) -> ServiceTask:
        made.append(Task())
        return cast(ServiceTask, made[-1])

    vitals = Vitals()
    supervisor = Supervisor(make, vitals)
    wake = ("team", "demo", kinds.CASCADE_SERVICE.plural)
    supervisor.wake(*wake)
    supervisor.wake(*wake)
    assert [task.wakes for task in made] == [2]

    first = supervisor._running["team", "demo"][1]
    made[0].gone.set()
    async with asyncio.timeout(10):
        while not first.done():  # noqa: ASYNC110
            await asyncio.sleep(0)
    # The callback of the end has not run yet.
    assert supervisor._running["team", "demo"][1] is first
    supervisor.wake(*wake)
    await asyncio.sleep(0)
    assert [task.wakes for task in made] == [2, 1]
    assert vitals.services == 1
    await supervisor.stop()
    await asyncio.sleep(0)
    assert vitals.services == 0


async def test_who_is_woken_after_the_end_does_not_begin_anew() -> None:
    made: list[Task] = []

    def make(*_: str) -> ServiceTask:
        made.append(Task())
        return cast(ServiceTask, made[-1])

    supervisor = Supervisor(make, Vitals())
    await supervisor.stop()
    supervisor.wake("team", "demo", kinds.CASCADE_SERVICE.plural)
    assert made == []
