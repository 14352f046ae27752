"""The operator's process and a Prometheus that wants to know who asks."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cascade_operator.reasons import Reason
from e2e.cluster import ApiServer
from tests.operator.api.conftest import Kubectl, kubelet, operator, until
from tests.operator.api.test_crd import manifest
from tests.operator.api.test_operator import condition
from tests.operator.http_server import Request, saying, serving
from tests.operator.test_prometheus_faults import HEALTHY

pytestmark = pytest.mark.api_server

OLD, NEW = "never-show-the-old-token", "never-show-the-new-token"


async def test_a_token_that_expires_is_told_and_a_new_one_taken_without_a_restart(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(OLD)
    accepted = OLD

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        known = request.headers.get("authorization") == f"Bearer {accepted}"
        await (HEALTHY if known else saying(401, ""))(request, writer)

    async with (
        serving(answer) as prometheus,
        serving(HEALTHY) as users,
        kubelet(server, kubectl.namespace),
        operator(
            server,
            kubectl.namespace,
            tmp_path,
            CASCADE_PROMETHEUS_URL=prometheus.url,
            CASCADE_PROMETHEUS_TOKEN_FILE=str(token),
        ) as process,
    ):
        planning = {"intervalSeconds": 10, "mode": "Advisory"}
        assert kubectl.apply(manifest(kubectl, gpuCount=6, planning=planning)).returncode == 0

        def reason_is(reason: str) -> dict[str, Any] | None:
            found = condition(kubectl, "MetricsAvailable")
            return found if found.get("reason") == reason else None

        await until("traffic was read", lambda: reason_is(Reason.METRICS_READ))
        accepted = NEW
        told = await until(
            "the token has expired", lambda: reason_is(Reason.PROMETHEUS_UNAUTHORIZED)
        )
        assert "check the credentials of the chart's prometheus values" in told["message"]
        token.write_text(NEW)
        await until("the new token is taken", lambda: reason_is(Reason.METRICS_READ))

        patch = json.dumps({"spec": {"prometheus": {"url": users.url}}})
        await asyncio.to_thread(kubectl, "patch", "csvc", "demo", "--type=merge", "-p", patch)
        await until("the other address was asked", lambda: len(users.requests) >= 7)
        assert not any("authorization" in request.headers for request in users.requests)

        seen = await asyncio.to_thread(kubectl, "get", "csvc,events,configmaps", "-o", "json")
        for secret in (OLD, NEW):
            assert secret not in str(seen)
            assert secret not in process.log.read_text()
