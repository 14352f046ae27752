"""Who is there and what the plan says: an always current view from the Kubernetes API.

With the API server away the last view holds; a stage map that cannot be read keeps the last one.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubernetes.aio import client
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from cascade_policy import names
from cascade_policy.stage_map import InvalidStageMap, StageMap
from cascade_router.config import Config
from cascade_router.endpoints import EndpointBook, Member
from cascade_router.watch import follow

CONFIG_RETRY_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)

__all__ = ["Member", "Membership", "View"]


@dataclass(frozen=True, slots=True)
class View:
    """What this sidecar knows of its service; the stage map is None until the first one came."""

    stage_map: StageMap | None
    members: tuple[Member, ...]
    own_stage: int | None
    """Stage of this sidecar's own pod, ready or not; None while no slice lists it."""
    leaving: bool = False
    """Whether the own pod is being deleted."""


class Membership:
    """Keeps `view` current and calls `on_view` after every change of it, in the event loop."""

    def __init__(self, config: Config, on_view: Callable[[View], None] | None = None) -> None:
        self.view = View(None, (), None)
        self._config = config
        self._on_view = on_view
        self._stage_map: StageMap | None = None
        self._endpoints = EndpointBook("IPv6" if ":" in config.pod_ip else "IPv4")
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        configuration = await _api_configuration(self._config)
        async with client.ApiClient(configuration) as api, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_stage_map(api))
            tasks.create_task(self._follow_endpoints(api))

    async def _follow_stage_map(self, api: client.ApiClient) -> None:
        await follow(
            client.CoreV1Api(api).list_namespaced_config_map_without_preload_content,
            {
                "namespace": self._config.namespace,
                "field_selector": f"metadata.name={self._config.stage_map_name}",
            },
            _StageMapWatch(self),
            f"ConfigMap {self._config.stage_map_name}",
        )

    async def _follow_endpoints(self, api: client.ApiClient) -> None:
        await follow(
            client.DiscoveryV1Api(api).list_namespaced_endpoint_slice_without_preload_content,
            {
                "namespace": self._config.namespace,
                "label_selector": (
                    f"{names.LABEL_SERVICE}={self._config.service},"
                    f"{names.LABEL_SERVICE_UID}={self._config.service_uid},"
                    # The front Service has slices too, of all stages: they carry no stage label.
                    f"{names.LABEL_STAGE}"
                ),
            },
            _EndpointWatch(self),
            f"EndpointSlices of {self._config.service}",
        )

    def use_stage_map(self, text: object) -> None:
        """Take a new stage map; one that cannot be read leaves the last one in force."""
        try:
            self._stage_map = StageMap.loads(text if isinstance(text, str) else "")
        except InvalidStageMap as error:
            _log.warning(
                "ConfigMap %s, key %s: %s; the last good stage map stays in force",
                self._config.stage_map_name,
                names.STAGE_MAP_KEY,
                error,
            )
        self.publish()

    def change_endpoints(self, change: Callable[[EndpointBook, float], None]) -> None:
        """Apply `change` to what is known of the slices."""
        change(self._endpoints, asyncio.get_running_loop().time())
        self.publish()

    def publish(self) -> None:
        """Make the view anew, and once more when an address stops counting as being moved."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._endpoints.forget(now)
        view = View(
            self._stage_map,
            self._endpoints.members(now),
            self._endpoints.stage_of(self._config.address, now),
            self._endpoints.is_terminating(self._config.address),
        )
        if self._timer is not None:
            self._timer.cancel()
        expiry = self._endpoints.expiry()
        self._timer = None if expiry is None else loop.call_at(expiry, self.publish)
        if view != self.view:
            self.view = view
            if self._on_view is not None:
                self._on_view(view)


class _StageMapWatch:
    """Passes the text of the stage map on."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    def listed(self, items: list[Any]) -> None:
        for item in items:
            self.changed(item)

    def changed(self, item: Mapping[str, Any]) -> None:
        self._membership.use_stage_map((item.get("data") or {}).get(names.STAGE_MAP_KEY))

    def removed(self, item: Mapping[str, Any]) -> None:
        name = (item.get("metadata") or {}).get("name")
        _log.warning("ConfigMap %s was deleted; the last stage map stays in force", name)


class _EndpointWatch:
    """Passes slices on."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    def listed(self, items: list[Any]) -> None:
        self._membership.change_endpoints(lambda book, now: book.replace(items, now))

    def changed(self, item: Mapping[str, Any]) -> None:
        self._membership.change_endpoints(lambda book, now: book.apply(item, now))

    def removed(self, item: Mapping[str, Any]) -> None:
        self._membership.change_endpoints(lambda book, now: book.remove(item, now))


async def _api_configuration(config: Config) -> client.Configuration:
    """How to reach the API server; waits until the service account's files are there."""
    while True:
        configuration = client.Configuration()
        try:
            if config.kubeconfig is None:
                load_incluster_config(  # type: ignore[no-untyped-call]
                    client_configuration=configuration
                )
            else:
                await load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=config.kubeconfig, client_configuration=configuration
                )
        except (ConfigException, OSError) as error:
            _log.warning("no way to the API server yet: %s", error)
            await asyncio.sleep(CONFIG_RETRY_SECONDS)
        else:
            return configuration
