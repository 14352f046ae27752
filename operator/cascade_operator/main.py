"""Puts the operator together and runs it: settings, client, election, watches, tasks."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from kubernetes.aio import client, config

from cascade_operator import kinds
from cascade_operator.cluster import Cluster
from cascade_operator.elector import Elector
from cascade_operator.environment import InvalidSettings
from cascade_operator.health import Vitals, serve_health
from cascade_operator.prometheus import PrometheusReader
from cascade_operator.prometheus_settings import risks
from cascade_operator.reach import mind_the_reach
from cascade_operator.service_task import ServiceTask
from cascade_operator.settings import Settings, read_settings
from cascade_operator.supervisor import Supervisor
from cascade_operator.watch import CHILDREN, Watch

log = logging.getLogger("cascade_operator")


def main() -> None:
    """Entry point of the command `cascade-operator`."""
    try:
        settings = read_settings()
    except InvalidSettings as error:
        sys.exit(f"cascade-operator: {error}")
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("kopf", "aiohttp", "urllib3", "kubernetes"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    sys.exit(asyncio.run(run(settings)))


async def run(settings: Settings) -> int:
    """Run until a signal (0), or until the leadership is lost or the watch ends (1)."""
    stop = _stop_on_signals()
    vitals = Vitals()
    health = await serve_health(settings.health_host, settings.health_port, vitals)
    async with health, await _api_client() as api_client:
        if not settings.leader_election:
            return await _lead(settings, Cluster(api_client), vitals, stop)
        lease = settings.namespace, settings.lease_name
        elector = Elector(Cluster(api_client), *lease, settings.pod_name)
        try:
            if not await _unless(stop, elector.campaign()):
                return 0
            holding = asyncio.create_task(elector.hold())
            holding.add_done_callback(lambda _: stop.set())
            code = await _lead(settings, Cluster(api_client, elector.may_write), vitals, stop)
            lost = holding.done()
            holding.cancel()
            return 1 if lost else code
        finally:
            await elector.release()


def _stop_on_signals() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()

    def told(number: signal.Signals) -> None:
        log.info("stopping on %s", number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told, number)
    return stop


async def _lead(settings: Settings, api: Cluster, vitals: Vitals, stop: asyncio.Event) -> int:
    """Watch and reconcile until `stop`."""
    vitals.leader = True
    vitals.count_requests(lambda: api.requests)
    reader = PrometheusReader(settings.prometheus)
    for risk in risks(settings.prometheus):
        log.warning("%s", risk)

    def make(namespace: str, name: str) -> ServiceTask:
        return ServiceTask(api, reader, settings, vitals, namespace, name)

    supervisor = Supervisor(make, vitals)
    watch = Watch(supervisor.wake, settings.watch_namespaces)
    watched = (kinds.CASCADE_SERVICE, *CHILDREN)
    minding = asyncio.create_task(mind_the_reach(api, watched, settings.watch_namespaces, vitals))
    stopping = asyncio.create_task(stop.wait())
    try:
        await _first(stopping, watch.ready, watch.ended)
        vitals.watching = watch.ready.done()
        log.info("watching %s", ", ".join(settings.watch_namespaces) or "all namespaces")
        await _first(stopping, watch.ended)
        if watch.ended.done():
            log.error("the watches ended: %r", watch.ended.exception())
            return 1
        return 0
    finally:
        vitals.leader = vitals.watching = False
        stopping.cancel()
        minding.cancel()
        watch.stop()
        await supervisor.stop()
        reader.close()


async def _first(*futures: "asyncio.Future[Any]") -> None:
    """Wait until one of them is done, and leave all of them alone."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, object]) -> bool:
    """Do `work` unless `stop` comes first; whether it was done."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
        return working.done()
    finally:
        working.cancel()
        stopping.cancel()


async def _api_client() -> client.ApiClient:
    """A client by service account inside a cluster, by KUBECONFIG outside."""
    configuration = client.Configuration()
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        config.load_incluster_config(  # type: ignore[no-untyped-call]
            client_configuration=configuration
        )
    else:
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            client_configuration=configuration
        )
    return client.ApiClient(configuration)
