"""Plans from a real Prometheus: ranges that follow the traffic; and plans that are proposed,
approved, reviewed, returned from.

The operator, Prometheus, the API server and its controllers are real. Of the routers there is the
part that counts, with traffic that the test tells them of, and nodes are played.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import pytest

from cascade_operator.plans import first_plan
from cascade_operator.reasons import Reason
from cascade_operator.resources import stage_map_of
from cascade_operator.times import timestamp
from cascade_policy import names
from cascade_router.exposition import CONTENT_TYPE, Page
from cascade_router.metrics import Metrics
from cascade_router.outcomes import Outcome
from e2e.cluster import ApiServer
from tests.operator.api.conftest import Kubectl, kubelet, operator, until
from tests.operator.api.test_crd import manifest
from tests.operator.api.test_operator import condition, pods, settled, status
from tests.operator.builders import NOW, service
from tests.real_prometheus import prometheus

pytestmark = pytest.mark.api_server

WINDOW_SECONDS = 30
PLANNING = {
    "mode": "Advisory",
    "intervalSeconds": 5,
    "windowSeconds": WINDOW_SECONDS,
    "minGainPercent": 1,
    "cooldownSeconds": 0,
}
PER_SECOND = 24
ENOUGH = PER_SECOND * (WINDOW_SECONDS + 20)
"""A window, and some readings in which it is all there."""
LONGEST_SECONDS = 120.0


class Traffic:
    """Requests that end at a steady rate, and the page on which a router counts them."""

    def __init__(self, namespace: str) -> None:
        self.seconds = 2.0
        self.requests = 0
        self._labels = {"namespace": namespace, "service": "demo"}
        self._metrics = Metrics()
        spec = service()
        self._metrics.use(stage_map_of(spec, first_plan(spec, NOW), timestamp(NOW)))
        self._lock = threading.Lock()

    async def run(self) -> None:
        """Until cancelled."""
        chance, loop = Random(7), asyncio.get_running_loop()
        due = loop.time()
        for prompt in cycle((100, 200, 300, 4000)):
            final = prompt + chance.randint(20, 200)
            with self._lock:
                self._metrics.request_started()
                self._metrics.decoded(prompt, final)
                self._metrics.request_finished(
                    Outcome.COMPLETED, prompt, final, 0, 0.1, 0.01, self.seconds
                )
            self.requests += 1
            # What a busy machine delays is made up for: the rate is part of the traffic.
            due += 1 / PER_SECOND
            await asyncio.sleep(max(0.0, due - loop.time()))

    def page(self) -> bytes:
        page = Page(self._labels)
        with self._lock:
            self._metrics.render(page)
        return page.text()


@asynccontextmanager
async def running(traffic: Traffic) -> AsyncIterator[None]:
    """Requests come while the block runs."""
    task = asyncio.create_task(traffic.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def serving(traffic: Traffic) -> Iterator[int]:
    """The port at which the page is."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = traffic.page()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def plan_in_force(kubectl: Kubectl) -> dict[str, Any]:
    text = kubectl.json("get", "configmap", "demo-stagemap")["metadata"]["annotations"]
    return dict(json.loads(text["cascadeservice.dev/plan"]))


def stage_map(kubectl: Kubectl) -> dict[str, Any]:
    data = kubectl.json("get", "configmap", "demo-stagemap")["data"]
    return dict(json.loads(data[names.STAGE_MAP_KEY]))


def decisions(kubectl: Kubectl) -> list[dict[str, Any]]:
    return list(status(kubectl).get("decisions", []))


def approve(kubectl: Kubectl, plan: str) -> None:
    kubectl("annotate", "--overwrite", "csvc", "demo", f"cascadeservice.dev/approve={plan}")


async def follow_the_traffic(kubectl: Kubectl, traffic: Traffic) -> int:
    """A plan of two stages, the first of which ends too late, and which the slow loop keeps.

    Returns how many requests there were when the spec changed last, as clients notice it.
    """
    odd = {**PLANNING, "mode": "Active", "minGainPercent": 100}
    fixed = manifest(kubectl, gpuCount=16, planning={**odd, "boundaries": [4000]})
    assert kubectl.apply(fixed).returncode == 0
    await until("two stages", lambda: settled(kubectl, 8, 8))
    warm = pods(kubectl)
    assert kubectl.apply(manifest(kubectl, gpuCount=16, planning=odd)).returncode == 0
    requests = traffic.requests
    await until("a step", lambda: (
        Reason.TRAFFIC_SHIFTED in [one["reason"] for one in decisions(kubectl)]
    ), LONGEST_SECONDS)  # fmt: skip
    await until("all know it", lambda: stage_map(kubectl)["planId"] == plan_in_force(kubectl)["id"])
    assert stage_map(kubectl)["stages"][0]["maxLength"] != 4000
    assert settled(kubectl, 8, 8)
    assert pods(kubectl) == warm, "no instance moves for it"
    assert Reason.BOUNDARIES_CHANGED in [event["reason"] for event in kubectl.items("events")]
    return requests


async def approve_what_is_proposed(kubectl: Kubectl) -> str:
    """Another id is refused, the proposed one is applied and on trial; that id."""
    await until("a proposal", lambda: plan_in_force(kubectl)["proposal"])
    proposal = str(plan_in_force(kubectl)["proposal"]["id"])
    await until("it is shown", lambda: status(kubectl)["plan"]["id"] == proposal)
    approve(kubectl, "none-such")
    await until("refused", lambda: (
        condition(kubectl, "PlanApplied").get("reason") == Reason.NOT_THE_PROPOSAL
    ))  # fmt: skip
    assert settled(kubectl, 8, 8)
    approve(kubectl, proposal)
    await until("on trial", lambda: (plan_in_force(kubectl)["trial"] or {}).get("placed"))
    assert plan_in_force(kubectl)["id"] == proposal
    assert Reason.APPROVED in [one["reason"] for one in decisions(kubectl)]
    return proposal


async def test_ranges_follow_and_a_plan_is_proposed_approved_reviewed_and_returned_from(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    traffic = Traffic(kubectl.namespace)
    with serving(traffic) as page:
        async with (
            running(traffic),
            prometheus(
                tmp_path, [{"targets": [f"127.0.0.1:{page}"]}], scrape_seconds=1.0
            ) as scraper,
            kubelet(server, kubectl.namespace) as node,
        ):
            environment = {
                "CASCADE_PROMETHEUS_URL": scraper.url,
                "CASCADE_LEADER_ELECTION": "false",
            }
            async with operator(server, kubectl.namespace, tmp_path, **environment):
                before = await follow_the_traffic(kubectl, traffic)
                applied = kubectl.apply(manifest(kubectl, gpuCount=16, planning=PLANNING))
                assert applied.returncode == 0
                await until(
                    "a window of requests",
                    lambda: traffic.requests > before + ENOUGH,
                    LONGEST_SECONDS,
                )
                proposal = await approve_what_is_proposed(kubectl)
                traffic.seconds = 6.0
            # A new operator goes on with the trial.
            async with operator(server, kubectl.namespace, tmp_path, "two", **environment):
                await until("a return", lambda: (
                    "Returned" in [one["verdict"] for one in decisions(kubectl)]
                ), LONGEST_SECONDS)  # fmt: skip
                returned = next(one for one in decisions(kubectl) if one["verdict"] == "Returned")
                assert returned["reason"] == Reason.LATENCY_WORSE
                assert returned["worthAfter"] > 2 * returned["worthBefore"]
                await until("as before", lambda: settled(kubectl, 8, 8))
                assert plan_in_force(kubectl)["penalty"]["plan"] == proposal
                reasons = [event["reason"] for event in kubectl.items("events")]
                assert {Reason.PLAN_ADOPTED, Reason.PLAN_RETURNED} <= set(reasons)
                assert node.killed == set()
