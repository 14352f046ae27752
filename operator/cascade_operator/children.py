"""Brings children to their manifests, and keeps its hands off what belongs to something else."""

from collections.abc import Mapping
from typing import Any

from cascade_operator import kinds
from cascade_operator.cluster import ClusterApi, ClusterError
from cascade_operator.errors import PassError, Retry, Waiting
from cascade_operator.events import Happening
from cascade_operator.kinds import Kind
from cascade_operator.managers import traces, who
from cascade_operator.reasons import Reason
from cascade_operator.resources import (
    Child,
    at_version,
    differs,
    hop_secret,
    is_applied,
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
_PARTS = (("spec",), ("data",), ("rules",), ("subjects",), ("metadata", "labels"))


class Children:
    """Applies the children of one CascadeService.

    Remembers what it applied last and what came of it: where the API server writes a value in
    another way than we do (a quantity, say), comparing alone would apply it again in every pass.
    """

    def __init__(self, api: ClusterApi) -> None:
        self._api = api
        self._applied: dict[tuple[str, str], str] = {}
        self._present: set[tuple[str, str]] = set()
        self._untold: list[Happening] = []

    def told(self) -> tuple[Happening, ...]:
        """What others did to children since the last call. Deployments are not among them."""
        told, self._untold = tuple(self._untold), []
        return told

    def forget(self, kind: Kind, name: str) -> None:
        """The operator deletes this child itself."""
        self._present.discard((kind.plural, name))

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
                self._present.add(_key(child))
                return observed
            child = _over(child, observed)
        result = await self._apply(spec, child)
        self._applied[_key(child)] = _version(result)
        self._note(child, observed, result)
        return result

    def _note(self, child: Child, observed: Json | None, result: Json) -> None:
        """What others did, as far as this apply shows it."""
        what = f"{child.kind.kind} {child.name}"
        if child.kind is kinds.DEPLOYMENT:
            return
        if observed is None and _key(child) in self._present:
            words = f"somebody deleted {what}: the operator created it again; no instance was lost"
            if child.kind is kinds.SERVICE:
                words += ", but it led nowhere meanwhile, and its address may be another"
            words += "."
            self._untold.append(Happening(Reason.CHILD_DELETED, words, warning=True))
        elif (
            observed is not None
            and is_applied(child, observed)
            and _version(observed) != _version(result)
        ):
            found = [trace for part in _PARTS for trace in traces(observed, *part)]
            fields = ", ".join(path for trace in found for path in trace.fields)
            words = (
                f"{who(found)} edited {what}{f' ({fields})' if fields else ''}: the operator wrote "
                "its own again; no instance was lost."
            )
            self._untold.append(Happening(Reason.CHILD_EDITED, words, warning=True))
        self._present.add(_key(child))

    async def _ensure_secret(self, spec: ServiceSpec, new_key: str) -> None:
        child = hop_secret(spec, new_key)
        observed = await self._api.get(kinds.SECRET, spec.namespace, child.name)
        if observed is not None:
            _check_owner(spec, child, observed)
            if (observed.get("data") or {}).get(names.HOP_SECRET_KEY):
                self._present.add(_key(child))
                return
            child = _over(child, observed)
        self._note(child, observed, await self._apply(spec, child))

    def _outdated(self, child: Child, observed: Json) -> bool:
        if not is_applied(child, observed):
            return True
        return differs(child, observed) and self._applied.get(_key(child)) != _version(observed)

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


def _key(child: Child) -> tuple[str, str]:
    return child.kind.plural, child.name


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
