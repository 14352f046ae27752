"""What an audit log tells of service accounts."""

import json
from typing import Any

import pytest

from e2e.cluster.audit import Request, Right, granted, requests_of, used

PODS = {"resource": "pods", "namespace": "team", "name": "a", "apiVersion": "v1"}


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
            line({**PODS, "resource": "deployments", "apiGroup": "apps"}, verb="patch"),
            Right("apps", "deployments", "patch"),
            id="an object of another group",
        ),
    ],
)
def test_a_request_is_the_use_of_a_right(text: str, right: Right) -> None:
    want = Request("ns", "sidecar", right, forbidden=False, within="team", name="a")
    assert requests_of([text]) == [want]


def test_a_request_without_the_right_is_forbidden_and_no_use_of_it() -> None:
    (found,) = requests_of([line(annotations={"authorization.k8s.io/decision": "forbid"})])
    assert found.forbidden
    assert not used([found])


@pytest.mark.parametrize(
    ("verb", "code", "wrote"),
    [
        pytest.param("patch", 200, True, id="a change"),
        pytest.param("create", 201, True, id="a new object"),
        pytest.param("patch", 409, False, id="a change that came too late"),
        pytest.param("list", 200, False, id="a look"),
    ],
)
def test_a_write_is_known_by_its_pod_and_its_time(verb: str, code: int, wrote: bool) -> None:
    user = {
        "username": "system:serviceaccount:ns:operator",
        "extra": {"authentication.kubernetes.io/pod-name": ["operator-1"]},
    }
    at = "1970-01-01T00:00:02.500000Z"
    (found,) = requests_of(
        [line(user=user, verb=verb, responseStatus={"code": code}, requestReceivedTimestamp=at)]
    )
    assert (found.pod, found.status, found.at, found.wrote) == ("operator-1", code, 2.5, wrote)


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
