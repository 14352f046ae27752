"""Whether the operator may look where it is told to watch, and what it says where it may not."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from cascade_operator.cluster import ClusterError
from cascade_operator.health import Vitals
from cascade_operator.kinds import Kind

log = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 10.0
_TELL_ROUNDS: Final = 30


class Looks(Protocol):
    """What is needed of a cluster."""

    async def look(self, kind: Kind, namespace: str) -> None:
        """Read next to nothing of a kind, in the whole cluster for the namespace "".

        Raises ClusterError.
        """


async def lacking(api: Looks, kinds: Sequence[Kind], namespaces: Sequence[str]) -> dict[str, str]:
    """By namespace in which something is forbidden, the API server's words about it.

    No namespaces stands for the whole cluster. What cannot be asked just now is taken for allowed:
    the watches try it again and again.
    """
    found: dict[str, str] = {}
    for namespace in namespaces or ("",):
        for kind in kinds:
            try:
                await api.look(kind, namespace)
            except ClusterError as error:
                if error.status == 403:
                    found.setdefault(namespace, error.message)
    return found


async def mind_the_reach(
    api: Looks, kinds: Sequence[Kind], namespaces: Sequence[str], vitals: Vitals
) -> None:
    """Say where a right is lacking, in the log and by not being ready, until none is."""
    rounds = 0
    while found := await lacking(api, kinds, namespaces):
        vitals.unreadable = tuple(place(namespace) for namespace in found)
        if rounds % _TELL_ROUNDS == 0:
            for namespace, words in found.items():
                log.error("%s", complaint(namespace, words))
        rounds += 1
        await asyncio.sleep(AGAIN_SECONDS)
    if vitals.unreadable:
        log.info("%s can be read now", ", ".join(vitals.unreadable))
    vitals.unreadable = ()


def place(namespace: str) -> str:
    """A namespace or the whole cluster, in words."""
    return f"namespace {namespace}" if namespace else "the cluster"


def complaint(namespace: str, words: str) -> str:
    """What is not looked after, why, and what to do."""
    if namespace:
        remedy = (
            "name the namespace in the chart's watchNamespaces, which makes the Role and "
            "RoleBinding cascadeservice-operator in it, or take it out of CASCADE_WATCH_NAMESPACES"
        )
    else:
        remedy = (
            "the chart binds the ClusterRole cascadeservice-operator; for single namespaces name "
            "them in its watchNamespaces"
        )
    return f"no CascadeService in {place(namespace)} is looked after: {words}; {remedy}"
