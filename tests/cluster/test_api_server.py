"""The API server alone: it answers, and its controllers work."""

import json
import subprocess

import pytest

from e2e.cluster import ApiServer

pytestmark = pytest.mark.api_server


def kubectl(server: ApiServer, *arguments: str) -> str:
    done = subprocess.run(
        [*server.kubectl, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_it_is_the_pinned_version(api_server: ApiServer) -> None:
    version = json.loads(kubectl(api_server, "version", "-o", "json"))

    assert version["serverVersion"]["gitVersion"] == version["clientVersion"]["gitVersion"]
    assert version["serverVersion"]["gitVersion"].startswith("v1.34.")


def test_its_controllers_make_pods_of_deployments(api_server: ApiServer) -> None:
    kubectl(api_server, "create", "namespace", "alone")
    try:
        kubectl(api_server, "-n", "alone", "create", "deployment", "d", "--image=x", "--replicas=2")
        condition = "--for=jsonpath={.status.replicas}=2"
        kubectl(api_server, "-n", "alone", "wait", condition, "deployment/d", "--timeout=30s")
    finally:
        kubectl(api_server, "delete", "namespace", "alone", "--wait=false")
