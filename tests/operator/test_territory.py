"""Whose a namespace is."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from cascade_operator import kinds
from cascade_operator.cluster import ClusterApi
from cascade_operator.kinds import Kind
from cascade_operator.territory import GRANT_NAME, Territory

BINDING = {"subjects": [{"kind": "ServiceAccount", "namespace": "team-system", "name": "operator"}]}


class Bindings:
    """RoleBindings by namespace."""

    def __init__(self, **of: Mapping[str, Any]) -> None:
        self.of = of

    async def get(self, kind: Kind, namespace: str, name: str) -> Mapping[str, Any] | None:
        assert (kind, name) == (kinds.ROLE_BINDING, GRANT_NAME)
        return self.of.get(namespace)


@pytest.mark.parametrize(
    ("case", "given", "account"),
    [
        ("the cluster's operator leaves a namespace to its own", (), "team-system/operator"),
        ("a namespace's operator is at home there", ("team",), None),
    ],
)
async def test_a_namespace_with_an_operator_of_its_own(
    case: str, given: tuple[str, ...], account: str | None
) -> None:
    territory = Territory(cast(ClusterApi, Bindings(team=BINDING)), given)
    other = await territory.other_operator("team")
    assert (other is None) == (account is None), case
    assert account is None or (other or "").endswith(account)


async def test_a_namespace_without_one_is_the_clusters() -> None:
    assert await Territory(cast(ClusterApi, Bindings()), ()).other_operator("team") is None


async def test_a_binding_of_nobody_keeps_the_clusters_operator_away_too() -> None:
    territory = Territory(cast(ClusterApi, Bindings(team={})), ())
    assert "nobody" in (await territory.other_operator("team") or "")
