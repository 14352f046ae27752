"""Brings children to their manifests, and keeps its hands off what belongs to something else."""

from collections.abc import Mapping
from typing import Any

from cascade_operator import kinds
from cascade_operator.cluster import ClusterApi, ClusterError
from cascade_operator.errors import PassError, Retry, Waiting
from cascade_operator.reasons import Reason
from cascade_operator.resources import (
    ANNOTATION_APPLIED,
    Child,
    at_version,
    differs,
    hop_secret,
    is_front,
    selects_the_same,
    stage_service,
    static_children,
)
from cascade_operator.spec import ServiceSpec
from cascade_policy import names

Json = Mapping[str, Any]

_FOREIGN_SECONDS = 30.0
_PREDECESSOR_SECONDS = 2.0
_REFUSED_SECONDS = 30.0
"""What refuses may be outside of the spec: a missing right, or a policy of the cluster."""


class Children:
    """Applies the children of one CascadeService.

    Remembers what it applied last and what came of it: where the API server writes a value in
    another way than we do (a quantity, say), comparing alone would apply it again in every pass.
    """

    def __init__(self, api: ClusterApi) -> None:
        self._api = api
        self._applied: dict[tuple[str, str], tuple[str, str]] = {}

    async def ensure_static(self, spec: ServiceSpec, stages: int, new_hop_key: str) -> None:
        """All children that the moves do not touch: RBAC, Services, budget, secret."""
        for child in static_children(spec):
            await self.ensure(spec, child)
        for index in range(stages):
            await self.ensure(spec, stage_service(spec, index))
        await self._ensure_secret(spec, new_hop_key)

    async def ensure(self, spec: ServiceSpec, child: Child, observed: Json | None = None) -> Json:
        """Apply `child` if the cluster's object (read unless given) differs; returns the object.

        Raises Waiting when the name is taken or the cluster refuses it.
        """
        if observed is None:
            observed = await self._api.get(child.kind, spec.namespace, child.name)
        try:
            return await self._ensure(spec, child, observed)
        except PassError as error:
            error.cuts_off = is_front(spec, child) and not selects_the_same(child, observed)
            raise

    async def _ensure(self, spec: ServiceSpec, child: Child, observed: Json | None) -> Json:
        if observed is not None:
            _check_owner(spec, child, observed)
            if not self._outdated(child, observed):
                return observed
            child = _over(child, observed)
        result = await self._apply(spec, child)
        self._applied[child.kind.plural, child.name] = (_hash(child.manifest), _version(result))
        return result

    async def _ensure_secret(self, spec: ServiceSpec, new_key: str) -> None:
        child = hop_secret(spec, new_key)
        observed = await self._api.get(kinds.SECRET, spec.namespace, child.name)
        if observed is None:
            await self._apply(spec, child)
            return
        _check_owner(spec, child, observed)
        if not (observed.get("data") or {}).get(names.HOP_SECRET_KEY):
            await self._apply(spec, _over(child, observed))

    def _outdated(self, child: Child, observed: Json) -> bool:
        wanted = _hash(child.manifest)
        if _hash(observed) != wanted:
            return True
        if not differs(child, observed):
            return False
        return self._applied.get((child.kind.plural, child.name)) != (wanted, _version(observed))

    async def _apply(self, spec: ServiceSpec, child: Child) -> Json:
        try:
            return await self._api.apply(
                child.kind, spec.namespace, child.manifest, names.FIELD_MANAGER
            )
        except ClusterError as error:
            what = f"{child.kind.kind} {child.name}"
            if error.namespace_ends:
                raise Waiting(
                    Reason.NAMESPACE_TERMINATING, error.message, _FOREIGN_SECONDS
                ) from error
            if error.refused:
                text = f"{what}: {error.message}"
                raise Waiting(Reason.REFUSED_BY_CLUSTER, text, _REFUSED_SECONDS) from error
            raise Retry(Reason.CLUSTER_ERROR, f"{what}: {error}") from error


def _over(child: Child, observed: Json) -> Child:
    """The child, valid for what was read only, unless it names an earlier reading itself."""
    if "resourceVersion" in child.manifest["metadata"]:
        return child
    return at_version(child, observed["metadata"]["resourceVersion"])


def _hash(manifest: Json) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(ANNOTATION_APPLIED, ""))


def _version(observed: Json) -> str:
    """What changes when someone else changes the object, but not with its status."""
    metadata = observed["metadata"]
    return str(metadata.get("generation") or metadata.get("resourceVersion", ""))


def _check_owner(spec: ServiceSpec, child: Child, observed: Json) -> None:
    owners = observed["metadata"].get("ownerReferences") or ()
    if any(owner["uid"] == spec.uid for owner in owners):
        return
    what = f"{child.kind.kind} {spec.namespace}/{child.name}"
    predecessor = any(o["kind"] == names.KIND and o["name"] == spec.name for o in owners)
    if predecessor:
        raise Waiting(
            Reason.NAME_TAKEN,
            f"{what} belongs to a deleted CascadeService of the same name and is going away",
            _PREDECESSOR_SECONDS,
        )
    belongs = ", ".join(f"{owner['kind']} {owner['name']}" for owner in owners) or "nobody here"
    raise Waiting(
        Reason.NAME_TAKEN,
        f"{what} exists and belongs to {belongs}: delete or rename it, or create this "
        "CascadeService under another name",
        _FOREIGN_SECONDS,
    )
