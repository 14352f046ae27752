"""An API server that refuses, or cannot be asked: what administrators and their webhooks do."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.operator.api.conftest import Kubectl

_GROUPS = {"services": "", "configmaps": "", "cascadeservices": "cascadeservice.dev"}
_NOBODY = "https://127.0.0.1:1/admit"


@contextmanager
def refusing(kubectl: Kubectl, resource: str, operation: str, unless: str) -> Iterator[None]:
    """In the namespace, `operation` on `resource` is refused unless the CEL expression holds."""
    name = f"refuses-{kubectl.namespace}"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [_rule(resource, operation)]},
            "validations": [{"expression": unless, "message": "refused by the test"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": _selector(kubectl)},
        },
    }
    with _applied(kubectl, policy, binding):
        yield


@contextmanager
def failing(kubectl: Kubectl, resource: str) -> Iterator[None]:
    """In the namespace, writes to `resource` ask a webhook that is not there."""
    webhook = {
        "name": "nobody.example.org",
        "clientConfig": {"url": _NOBODY},
        "rules": [_rule(resource, "*")],
        "namespaceSelector": _selector(kubectl),
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail",
    }
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"fails-{kubectl.namespace}"},
        "webhooks": [webhook],
    }
    with _applied(kubectl, configuration):
        yield


@contextmanager
def _applied(kubectl: Kubectl, *manifests: dict[str, Any]) -> Iterator[None]:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    kubectl("apply", "-f", "-", stdin=text)
    try:
        yield
    finally:
        kubectl("delete", "-f", "-", stdin=text)


def _rule(resource: str, operation: str) -> dict[str, Any]:
    return {
        "apiGroups": [_GROUPS[resource]],
        "apiVersions": ["*"],
        "resources": [resource],
        "operations": [operation],
    }


def _selector(kubectl: Kubectl) -> dict[str, Any]:
    return {"matchLabels": {"kubernetes.io/metadata.name": kubectl.namespace}}
