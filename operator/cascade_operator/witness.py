"""Keeps what was seen of instances and stages, and reads the few pods that a list says too little
of."""

import asyncio
from collections.abc import Iterable, Sequence

from cascade_operator import kinds, ledger
from cascade_operator.acts import edit
from cascade_operator.cluster import ClusterApi
from cascade_operator.events import Happening
from cascade_operator.moves import Write
from cascade_operator.repairs import Repair
from cascade_operator.snapshot import Snapshot


class Witness:
    """Sees what others do to one CascadeService."""

    def __init__(self, api: ClusterApi, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._ledger: ledger.Ledger | None = None

    async def look(
        self, snapshot: Snapshot, counts: Sequence[int], repairs: Iterable[Repair], now: float
    ) -> tuple[Happening, ...]:
        """What is to be told of after a snapshot and what it led to: edits that were undone.

        Raises ClusterError.
        """
        asked = ledger.questions(self._ledger, snapshot)
        pods = await asyncio.gather(
            *(self._api.get(kinds.POD, self._namespace, name) for name in asked)
        )
        answers = {pod["metadata"]["uid"]: pod for pod in pods if pod is not None}
        edits = [edit(repair.stage, repair.traces, now) for repair in repairs]
        self._ledger, told = ledger.look(self._ledger, snapshot, counts, edits, answers, now)
        return told

    def expect(self, writes: Iterable[Write]) -> None:
        """The operator is about to do this itself."""
        if self._ledger is not None:
            self._ledger = self._ledger.expecting(writes)
