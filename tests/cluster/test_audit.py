"""What an audit log tells of service accounts."""

import json
from typing import Any

import pytest

from e2e.cluster.audit import Request, Right, granted, requests_of, used

PODS = {"resource": "pods", "namespace": "ns", "name": "a", "apiVersion": "v1"}


def line(target: dict[str, Any] | None = PODS, **fields: Any) -> str:
    event = {
        "user": {"username": "system:serviceaccount:ns:sidecar"},
        "verb": "get",
        "objectRef": target,
        "annotations": {"authorization.k8s.io/decision": "allow"},
        **fields,
    }
    return json.dumps(event) + "\n"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        pytest.param(line(), Right("", "pods", "get"), id="an object of the core group"),
        pytest.param(
            line({**PODS, "subresource": "log"}), Right("", "pods/log", "get"), id="a subresource"
        ),
        pytest.param(
            line({"resource": "deployments", "apiGroup": "apps"}, verb="patch"),
            Right("apps", "deployments", "patch"),
            id="an object of another group",
        ),
    ],
)
def test_a_request_is_the_use_of_a_right(text: str, right: Right) -> None:
    assert requests_of([text]) == [Request("ns", "sidecar", right, forbidden=False)]


def test_a_request_without_the_right_is_forbidden_and_no_use_of_it() -> None:
    (found,) = requests_of([line(annotations={"authorization.k8s.io/decision": "forbid"})])
    assert found.forbidden
    assert not used([found])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(line(None), id="what the API has to offer"),
        pytest.param(line(user={"username": "admin"}), id="a person"),
        pytest.param(line()[:-5], id="a line that is still being written"),
    ],
)
def test_what_is_no_request_of_an_account_for_objects_is_passed_over(text: str) -> None:
    assert requests_of([text]) == []


def test_uses_are_counted() -> None:
    assert used(requests_of([line(), line(), line(verb="list")])) == {
        Right("", "pods", "get"): 2,
        Right("", "pods", "list"): 1,
    }


def test_rules_give_every_verb_on_every_resource_of_every_group() -> None:
    rule = {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create"]}
    urls = {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
    assert granted([rule, urls]) == {
        Right("", "events", "create"),
        Right("events.k8s.io", "events", "create"),
    }
