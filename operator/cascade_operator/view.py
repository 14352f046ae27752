"""Reads everything that a pass decides on, from the API server itself and not from any cache."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade_operator import kinds
from cascade_operator.cluster import ClusterApi
from cascade_operator.managers import traces
from cascade_operator.plans import PlanRecord
from cascade_operator.snapshot import Snapshot, stage_index, take_snapshot
from cascade_operator.spec import ServiceSpec
from cascade_policy import names
from cascade_policy.stage_map import InvalidStageMap, StageMap

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """What the cluster has of one CascadeService."""

    snapshot: Snapshot
    config: Json | None
    """The stage map's ConfigMap."""
    deployments: Mapping[int, Json]
    """The stage Deployments by index, as the API server sent them."""

    @property
    def stage_map(self) -> StageMap | None:
        """The map in force; None when there is none that can be read, or others wrote it."""
        if self.config is None or traces(self.config, "data", names.STAGE_MAP_KEY):
            return None
        try:
            return StageMap.loads((self.config.get("data") or {})[names.STAGE_MAP_KEY])
        except (KeyError, InvalidStageMap):
            return None

    @property
    def plan(self) -> PlanRecord | None:
        """The plan that was in force when the operator wrote the ConfigMap."""
        if self.config is None or traces(
            self.config, "metadata", "annotations", names.ANNOTATION_PLAN
        ):
            return None
        metadata = self.config["metadata"]
        return PlanRecord.loads((metadata.get("annotations") or {}).get(names.ANNOTATION_PLAN))


async def read_view(api: ClusterApi, spec: ServiceSpec) -> View:
    """One LIST per kind. Pods come last, because lifting and lowering go by them."""
    own = {names.LABEL_SERVICE_UID: spec.uid}
    config, deployments, replica_sets = await asyncio.gather(
        api.get(kinds.CONFIG_MAP, spec.namespace, names.stage_map_name(spec.name)),
        api.list(kinds.DEPLOYMENT, spec.namespace, own),
        api.list(kinds.REPLICA_SET, spec.namespace, own),
    )
    pods = await api.pods(spec.namespace, own)
    return View(
        snapshot=take_snapshot(deployments, replica_sets, pods),
        config=config,
        deployments={
            index: item
            for item in deployments
            if (index := stage_index(item["metadata"]["labels"].get(names.LABEL_STAGE))) is not None
        },
    )
