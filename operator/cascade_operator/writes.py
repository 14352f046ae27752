"""Carries out what the pure steps decided, each write guarded by what the decision had read.

A write that meets another state than the one it was decided on is dropped: the next pass decides
anew.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from itertools import islice

from cascade_operator import kinds
from cascade_operator.children import Children
from cascade_operator.cluster import ClusterApi, ClusterError
from cascade_operator.errors import Retry
from cascade_operator.marks import guarded, length_range, lift_patch, mark_patch
from cascade_operator.moves import (
    CreateStage,
    DeletePod,
    DeleteStage,
    MovePod,
    ReleasePod,
    SetReplicas,
    Write,
)
from cascade_operator.pod_template import Images
from cascade_operator.reasons import Reason
from cascade_operator.resources import stage_deployment, stage_service, with_replicas
from cascade_operator.snapshot import STAGE_LEAVING, Pod, Stage
from cascade_operator.spec import ServiceSpec
from cascade_policy import names
from cascade_policy.stage_map import StageMap

log = logging.getLogger(__name__)

_OVERTAKEN = frozenset({404, 409})


class Writer:
    """Writes for one CascadeService. Methods return how many writes were done."""

    def __init__(self, api: ClusterApi, children: Children, images: Images) -> None:
        self._api = api
        self._children = children
        self._images = images

    async def lift(self, spec: ServiceSpec, pods: Iterable[Pod], stage_map: StageMap | None) -> int:
        """Remove our gate from exactly these pods."""
        return await _all(
            self._patch_pod(spec, pod, lift_patch(pod, spec, stage_map)) for pod in pods
        )

    async def mark(
        self, spec: ServiceSpec, pods: Iterable[Pod], stage_map: StageMap | None, *, at_most: int
    ) -> int:
        """Give warm pods, at most so many, the owner and the labels that they miss."""
        patches = (
            (pod, patch)
            for pod in pods
            if pod.warm and (patch := mark_patch(pod, spec, stage_map)) is not None
        )
        chosen = islice(patches, at_most)
        return await _all(self._patch_pod(spec, pod, patch) for pod, patch in chosen)

    async def apply_template(self, spec: ServiceSpec, stage: Stage) -> int:
        """Give a stage the present template; its replicas stay exactly what they are."""
        child = stage_deployment(spec, self._images, stage.index)
        child = with_replicas(child, stage.replicas, stage.resource_version)
        return await _all([self._children.ensure(spec, child)])

    async def perform(self, spec: ServiceSpec, writes: Iterable[Write], stage_map: StageMap) -> int:
        """Carry out one step of the move protocol."""
        return await _all([self._perform(spec, write, stage_map) for write in writes])

    async def _perform(self, spec: ServiceSpec, write: Write, stage_map: StageMap) -> None:
        match write:
            case CreateStage(index, replicas):
                await self._create_stage(spec, index, replicas)
            case SetReplicas(stage, replicas):
                await self._set_replicas(spec, stage, replicas)
            case MovePod(pod, stage_index, hash_):
                await self._move(spec, pod, stage_index, hash_, stage_map)
            case ReleasePod(pod):
                patch = {"metadata": {"labels": {names.LABEL_STAGE: STAGE_LEAVING}}}
                await self._patch_pod(spec, pod, guarded(pod, patch))
            case DeletePod(pod):
                log.info("%s/%s: removing pod %s", spec.namespace, spec.name, pod.name)
                await self._api.delete(
                    kinds.POD, spec.namespace, pod.name, pod.uid, pod.resource_version
                )
            case DeleteStage(stage):
                await self._delete_stage(spec, stage)

    async def _create_stage(self, spec: ServiceSpec, index: int, replicas: int) -> None:
        await self._children.ensure(spec, stage_service(spec, index))
        child = stage_deployment(spec, self._images, index)
        await self._children.ensure(spec, with_replicas(child, replicas))

    async def _set_replicas(self, spec: ServiceSpec, stage: Stage, replicas: int) -> None:
        patch = {
            "metadata": {"uid": stage.uid, "resourceVersion": stage.resource_version},
            "spec": {"replicas": replicas},
        }
        await self._api.patch(
            kinds.DEPLOYMENT, spec.namespace, stage.name, patch, names.FIELD_MANAGER
        )

    async def _move(
        self, spec: ServiceSpec, pod: Pod, stage: int, hash_: str, stage_map: StageMap
    ) -> None:
        labels = {names.LABEL_STAGE: str(stage), names.LABEL_POD_TEMPLATE_HASH: hash_}
        lengths = length_range(stage_map, stage)
        if lengths is not None:
            labels[names.LABEL_LENGTH_RANGE] = lengths
        await self._patch_pod(spec, pod, guarded(pod, {"metadata": {"labels": labels}}))
        log.info("%s/%s: pod %s moves to stage %d", spec.namespace, spec.name, pod.name, stage)

    async def _delete_stage(self, spec: ServiceSpec, stage: Stage) -> None:
        await self._api.delete(
            kinds.DEPLOYMENT, spec.namespace, stage.name, stage.uid, stage.resource_version
        )
        self._children.forget(kinds.SERVICE, stage.name)
        service = await self._api.get(kinds.SERVICE, spec.namespace, stage.name)
        if service is not None:
            await self._api.delete(
                kinds.SERVICE, spec.namespace, stage.name, service["metadata"]["uid"]
            )

    async def _patch_pod(self, spec: ServiceSpec, pod: Pod, patch: dict[str, object]) -> None:
        await self._api.patch(kinds.POD, spec.namespace, pod.name, patch, names.FIELD_MANAGER)


async def _all(writes: Iterable[Awaitable[object]]) -> int:
    """Run all to their end; the first failure that is more than being overtaken is raised."""
    results = await asyncio.gather(*writes, return_exceptions=True)
    done = 0
    for result in results:
        if isinstance(result, ClusterError):
            if result.status not in _OVERTAKEN:
                raise Retry(Reason.CLUSTER_ERROR, str(result)) from result
        elif isinstance(result, BaseException):
            raise result
        else:
            done += 1
    return done
