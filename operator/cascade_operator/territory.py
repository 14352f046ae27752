"""Whose a namespace is, where an operator of the whole cluster meets one of single namespaces.

The chart binds an operator's rights under one fixed name, in the whole cluster or in each of the
namespaces that it was given. So a namespace has one operator of its own at most, and so has the
cluster; and the one of the cluster leaves a namespace that has its own alone.
"""

from collections.abc import Mapping
from typing import Any, Final

from cascade_operator import kinds
from cascade_operator.cluster import ClusterApi

Json = Mapping[str, Any]

GRANT_NAME: Final = "cascadeservice-operator"
"""Of the RoleBinding or ClusterRoleBinding of an operator; the chart has the same."""


class Territory:
    """The namespaces of this operator: those that it was given, or all without their own."""

    def __init__(self, api: ClusterApi, given: tuple[str, ...]) -> None:
        self._api = api
        self._given = given

    async def other_operator(self, namespace: str) -> str | None:
        """The operator that a namespace has of its own, in words; None where it is ours.

        Raises ClusterError: who cannot know whose it is, leaves it alone.
        """
        if self._given:
            return None
        binding = await self._api.get(kinds.ROLE_BINDING, namespace, GRANT_NAME)
        return None if binding is None else _in_words(binding)


def _in_words(binding: Json) -> str:
    subjects = binding.get("subjects") or ({"name": "nobody"},)
    account = "/".join(part for part in (subjects[0].get("namespace"), subjects[0]["name"]) if part)
    return f"the operator that RoleBinding {GRANT_NAME} of its namespace names: {account}"
