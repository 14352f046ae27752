"""Undoes what others wrote into stage Deployments, before anything that they led to is followed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade_operator import kinds
from cascade_operator.children import Children
from cascade_operator.cluster import ClusterApi, ClusterError
from cascade_operator.edits import content, edits, undo_patch
from cascade_operator.errors import Retry
from cascade_operator.managers import Trace
from cascade_operator.pod_template import Images
from cascade_operator.reasons import Reason
from cascade_operator.resources import Child, is_applied, stage_deployment, with_replicas
from cascade_operator.snapshot import Stage
from cascade_operator.spec import ServiceSpec
from cascade_operator.view import View
from cascade_policy import names

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Repair:
    """A stage whose Deployment was brought back, and who had written into it."""

    stage: Stage
    traces: tuple[Trace, ...]


class Repairs:
    """Repairs the stage Deployments of one CascadeService.

    Remembers what was found in order: what the API server writes in another way than we do (a
    quantity, say) would be taken for an edit in every pass.
    """

    def __init__(self, api: ClusterApi, children: Children, images: Images) -> None:
        self._api = api
        self._children = children
        self._images = images
        self._in_order: dict[str, str] = {}

    async def undo(self, spec: ServiceSpec, view: View) -> tuple[Repair, ...]:
        """Bring back the Deployments that have the present template; what was undone.

        One that waits for a changed template gets its spec with it. Raises Retry and Stalled.
        """
        done = []
        for stage in view.snapshot.stages:
            deployment = view.deployments[stage.index]
            child = stage_deployment(spec, self._images, stage.index)
            template = child.manifest["metadata"]["annotations"][names.ANNOTATION_TEMPLATE_HASH]
            seen = content(deployment)
            if stage.deleting or stage.template_hash not in (template, None):
                continue
            if not is_applied(child, deployment):
                whole = with_replicas(child, stage.replicas, stage.resource_version)
                await self._children.ensure(spec, whole, deployment)
                continue
            if self._in_order.get(stage.uid) == seen:
                continue
            found = edits(child, deployment)
            changed = found is not None and await self._replace(spec, child, deployment)
            if changed and found is not None:
                done.append(Repair(stage, found))
            elif changed is False:
                self._in_order[stage.uid] = seen
        return tuple(done)

    async def _replace(self, spec: ServiceSpec, child: Child, deployment: Json) -> bool | None:
        """Whether that changed anything; None if it was overtaken, so that nobody knows."""
        patch = undo_patch(child, deployment)
        try:
            result = await self._api.json_patch(
                kinds.DEPLOYMENT, spec.namespace, child.name, patch, names.FIELD_MANAGER
            )
        except ClusterError as error:
            if error.conflict or error.gone:
                return None
            raise Retry(Reason.CLUSTER_ERROR, f"Deployment {child.name}: {error}") from error
        before, after = deployment["metadata"], result["metadata"]
        return bool(before.get("generation") != after.get("generation"))
