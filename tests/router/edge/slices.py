"""Builders of EndpointSlices as the API server sends them."""

from typing import Any

from cascade_policy import names


def endpoint(
    pod: str,
    ip: str,
    *,
    ready: bool | None = True,
    terminating: bool | None = False,
) -> dict[str, Any]:
    return {
        "addresses": [ip],
        "conditions": {"ready": ready, "serving": ready, "terminating": terminating},
        "targetRef": {"kind": "Pod", "name": pod},
    }


def a_slice(
    stage: int,
    *endpoints: dict[str, Any],
    name: str | None = None,
    version: int = 1,
    address_type: str = "IPv4",
    port: int = 8000,
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name or f"llama-stage-{stage}-x",
            "resourceVersion": str(version),
            "labels": {
                names.LABEL_SERVICE: "llama",
                names.LABEL_SERVICE_UID: "u-1",
                names.LABEL_STAGE: str(stage),
            },
        },
        "addressType": address_type,
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }
