"""Children are written over what was read, and over nothing else."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from cascade_operator.children import Children
from cascade_operator.cluster import ClusterApi, ClusterError
from cascade_operator.errors import Retry
from cascade_operator.kinds import Kind
from cascade_operator.resources import at_version, static_children
from tests.operator.builders import service

Json = Mapping[str, Any]
SPEC = service()
CHILD = static_children(SPEC)[0]
OWNED = {"name": CHILD.name, "ownerReferences": [{"uid": SPEC.uid}]}


class Api:
    """One object, as it is read and as it is by the time of a write."""

    def __init__(self, read: str | None, stored: str | None) -> None:
        self.read = read
        self.stored = stored
        self.applied: list[Json] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        del kind, namespace, name
        return None if self.read is None else {"metadata": {**OWNED, "resourceVersion": self.read}}

    async def apply(self, kind: Kind, namespace: str, manifest: Json, manager: str) -> Json:
        del kind, namespace, manager
        if manifest["metadata"].get("resourceVersion", self.stored) != self.stored:
            raise ClusterError(409, "Conflict", "the object has been modified")
        self.applied.append(manifest)
        return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "9"}}


@pytest.mark.parametrize(
    ("read", "stored"),
    [
        pytest.param("7", "7", id="an object that is as it was read"),
        pytest.param(None, None, id="a first one"),
    ],
)
async def test_an_outdated_child_is_applied(read: str | None, stored: str | None) -> None:
    api = Api(read, stored)
    await Children(cast(ClusterApi, api)).ensure(SPEC, CHILD)
    assert len(api.applied) == 1


async def test_a_child_that_another_has_changed_since_is_looked_at_again() -> None:
    api = Api("7", "8")
    with pytest.raises(Retry):
        await Children(cast(ClusterApi, api)).ensure(SPEC, CHILD)
    assert api.applied == []


async def test_a_child_that_was_decided_on_earlier_keeps_that_version() -> None:
    api = Api("8", "8")
    with pytest.raises(Retry):
        await Children(cast(ClusterApi, api)).ensure(SPEC, at_version(CHILD, "7"))
    assert api.applied == []
