"""Tells the user what a pass found: the status if it changed, and an Event per change."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cascade_operator import kinds
from cascade_operator.cluster import ClusterApi, ClusterError
from cascade_operator.decisions import steps_before
from cascade_operator.errors import PassError, Retry
from cascade_operator.events import Happening, changes, event_manifest
from cascade_operator.observation import Observation
from cascade_operator.reasons import Reason
from cascade_operator.spec import ServiceSpec
from cascade_operator.status import by_type, error_status, render_status
from cascade_policy import names

Json = Mapping[str, Any]

log = logging.getLogger(__name__)

_PACE_SECONDS: Final = 1.0
"""While things move the status changes with every pass; readers do not need each of them."""


class Reporter:
    """Writes the status of one CascadeService."""

    def __init__(self, api: ClusterApi, identity: str) -> None:
        self._api = api
        self._identity = identity
        self._written = 0.0

    async def report(self, resource: Json, seen: Observation, now: float) -> bool:
        """Write the status of `seen`; False when it changed but is not written: it is too early, or
        the CascadeService is not what the pass began with."""
        previous = resource.get("status", {})
        status = render_status(seen, previous, now)
        happenings = list(changes(by_type(previous), status["conditions"]))
        event = seen.event
        if event is not None and not steps_before(previous.get("decisions", ()), seen.record):
            happenings.insert(0, Happening(str(event.reason), event.message, not event.holds))
        if status == previous:
            await self.tell(seen.spec, happenings, now)
            return True
        urgent = seen.settled or seen.event is not None or bool(happenings)
        if not urgent and 0 <= now - self._written < _PACE_SECONDS:
            return False
        if not await self._write(resource, status, now):
            return False
        await self.tell(seen.spec, happenings, now)
        return True

    async def report_error(self, resource: Json, error: PassError, now: float) -> None:
        """Write what ended a pass before it could see the pods."""
        previous = resource.get("status", {})
        generation = int(resource["metadata"].get("generation", 1))
        status = error_status(previous, error, generation, now)
        if status != previous:
            await self._write(resource, status, now)

    async def _write(self, resource: Json, status: Json, now: float) -> bool:
        """Whether it is written: only over the status that was read, so that an operator that was
        suspended in mid-write cannot take back what its successor has said."""
        metadata = resource["metadata"]
        read = {key: metadata[key] for key in ("name", "uid", "resourceVersion")}
        manifest = {
            "apiVersion": kinds.CASCADE_SERVICE.api_version,
            "kind": kinds.CASCADE_SERVICE.kind,
            "metadata": read,
            "status": status,
        }
        try:
            await self._api.apply_status(
                kinds.CASCADE_SERVICE, metadata["namespace"], manifest, names.FIELD_MANAGER_STATUS
            )
        except ClusterError as error:
            if error.gone or error.conflict:
                return False
            raise Retry(Reason.CLUSTER_ERROR, f"status: {error}") from error
        self._written = now
        return True

    async def tell(self, spec: ServiceSpec, happenings: Sequence[Happening], now: float) -> None:
        """Events are a courtesy: a refused one is logged and forgotten."""
        for happening in happenings:
            log.info("%s/%s: %s: %s", spec.namespace, spec.name, happening.reason,
                     happening.message)  # fmt: skip
            manifest = event_manifest(spec, happening, now, self._identity)
            try:
                await self._api.create(kinds.EVENT, spec.namespace, manifest)
            except ClusterError as error:
                if error.namespace_ends:
                    return
                log.warning("%s/%s: no Event: %s", spec.namespace, spec.name, error)
