"""Where the operator may look, and what it says where it may not."""

import asyncio

import pytest

from cascade_operator import kinds, reach
from cascade_operator.cluster import ClusterError
from cascade_operator.health import Vitals
from cascade_operator.kinds import Kind
from cascade_operator.reach import lacking, mind_the_reach

WATCHED = (kinds.CASCADE_SERVICE, kinds.POD)
FORBIDDEN = ClusterError(403, "Forbidden", 'pods is forbidden: User "operator" cannot list')


class Api:
    """Refuses some kinds in some namespaces."""

    def __init__(self, *refused: tuple[Kind, str], error: ClusterError = FORBIDDEN) -> None:
        self.refused = set(refused)
        self.error = error
        self.asked: list[tuple[str, str]] = []

    async def look(self, kind: Kind, namespace: str) -> None:
        self.asked.append((kind.plural, namespace))
        if (kind, namespace) in self.refused:
            raise self.error


async def test_every_kind_is_looked_at_in_every_namespace() -> None:
    api = Api((kinds.POD, "b"))
    assert await lacking(api, WATCHED, ("a", "b")) == {"b": FORBIDDEN.message}
    assert len(api.asked) == 4


async def test_without_namespaces_the_cluster_is_looked_at() -> None:
    api = Api((kinds.POD, ""))
    assert await lacking(api, WATCHED, ()) == {"": FORBIDDEN.message}


async def test_a_cluster_that_does_not_answer_is_not_a_lacking_right() -> None:
    away = ClusterError(0, "Unreachable", "away")
    assert await lacking(Api((kinds.POD, "a"), error=away), WATCHED, ("a",)) == {}


@pytest.mark.parametrize(
    ("namespaces", "refused", "words"),
    [
        pytest.param(
            ("a", "b"), "b", "no CascadeService in namespace b is looked after", id="one of two"
        ),
        pytest.param((), "", "no CascadeService in the cluster is looked after", id="the cluster"),
    ],
)
async def test_what_is_lacking_is_said_once_and_keeps_it_from_being_ready_until_it_is_there(
    namespaces: tuple[str, ...],
    refused: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reach, "AGAIN_SECONDS", 0.0)
    api, vitals = Api((kinds.POD, refused)), Vitals()
    vitals.leader = vitals.watching = True
    minding = asyncio.create_task(mind_the_reach(api, WATCHED, namespaces, vitals))
    async with asyncio.timeout(10):
        while len(api.asked) < 12:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert "no right to look" in vitals.not_ready_because
        api.refused.clear()
        await minding
    assert vitals.not_ready_because == ""
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 1
    assert said[0].startswith(words)
    assert FORBIDDEN.message in said[0]
    assert "watchNamespaces" in said[0]
