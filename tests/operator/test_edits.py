"""What others wrote into an object, who they were, and how it is undone."""

import copy
from typing import Any

import pytest

from cascade_operator.edits import content, edits, undo_patch
from cascade_operator.managers import traces, who
from cascade_operator.resources import stage_deployment
from cascade_operator.snapshot import RESTARTED_AT
from tests.operator.builders import IMAGES, service

CHILD = stage_deployment(service(), IMAGES, 0)


def deployment(manager: str = "", fields: dict[str, Any] | None = None) -> dict[str, Any]:
    """The stage Deployment as the API server has it, with fields that somebody owns."""
    body = copy.deepcopy(dict(CHILD.manifest))
    body["spec"]["replicas"] = 3
    body["metadata"]["resourceVersion"] = "7"
    body["metadata"]["managedFields"] = [
        {"manager": "cascade-operator", "fieldsV1": {"f:spec": {"f:template": {}}}},
        *([{"manager": manager, "time": "then", "fieldsV1": fields}] if manager else []),
    ]
    return body


def template(**below: Any) -> dict[str, Any]:
    return {"f:spec": {"f:template": below}}


ENGINE: dict[str, Any] = {
    "f:spec": {"f:containers": {'k:{"name":"engine"}': {".": {}, "f:image": {}}}}
}
RESTART: dict[str, Any] = {"f:metadata": {"f:annotations": {".": {}, f"f:{RESTARTED_AT}": {}}}}
CASES: dict[str, tuple[str, dict[str, Any] | None, list[str] | None]] = {
    "as it was applied": ("", None, None),
    "replicas are the move protocol's": ("kubectl", {"f:spec": {"f:replicas": {}}}, None),
    "a restart is for whoever asked for it": ("kubectl-rollout", template(**RESTART), None),
    "a pause": ("kubectl-rollout", {"f:spec": {"f:paused": {}}}, ["spec.paused"]),
    "an image": (
        "kubectl-set",
        template(**ENGINE),
        ["spec.template.spec.containers[engine].image"],
    ),
    "an image and a restart": (
        "kubectl-edit",
        template(**ENGINE, **RESTART),
        ["spec.template.spec.containers[engine].image"],
    ),
    "status is no edit": ("kube-controller-manager", {"f:status": {"f:replicas": {}}}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_who_wrote_into_a_deployment(case: str) -> None:
    manager, fields, want = CASES[case]
    found = edits(CHILD, deployment(manager, fields))
    assert (found if found is None else [path for one in found for path in one.fields]) == want


def test_what_was_taken_away_has_no_owner_and_is_seen_nevertheless() -> None:
    observed = deployment()
    del observed["spec"]["template"]["spec"]["containers"][0]["lifecycle"]
    found = edits(CHILD, observed)
    assert found == ()
    assert who(found) == "somebody"


def test_the_spec_comes_back_as_a_whole_but_for_replicas_and_a_restart() -> None:
    observed = deployment()
    observed["spec"]["paused"] = True
    observed["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT] = "then"
    version, spec = undo_patch(CHILD, observed)
    assert version == {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}
    assert spec["value"].pop("replicas") == 3
    assert spec["value"]["template"]["metadata"]["annotations"].pop(RESTARTED_AT) == "then"
    assert spec["value"] == CHILD.manifest["spec"]


def test_replicas_do_not_count_as_content() -> None:
    before, after = deployment(), deployment()
    after["spec"]["replicas"] = 9
    assert content(before) == content(after)
    after["spec"]["paused"] = True
    assert content(before) != content(after)


def test_a_trace_names_entries_of_lists_by_their_keys_and_values() -> None:
    item = deployment("helm", {"f:metadata": {"f:finalizers": {'v:"keep"': {}}}})
    assert traces(item, "metadata")[0].fields == ("metadata.finalizers[keep]",)
    assert traces(item, "spec", "replicas") == ()
