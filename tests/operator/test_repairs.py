"""Edits of stage Deployments are undone, until it is certain that they are."""

from typing import Any, cast

from cascade_operator.children import Children
from cascade_operator.cluster import ClusterApi, ClusterError
from cascade_operator.repairs import Repairs
from cascade_operator.view import View
from tests.operator.builders import IMAGES, service, snapshot, stage
from tests.operator.test_edits import CHILD, deployment

PAUSED: dict[str, Any] = {"f:spec": {"f:paused": {}}}
SPEC = service()


class Api:
    """An API server that answers a patch with the next of `answers`."""

    def __init__(self, *answers: int | ClusterError) -> None:
        self.answers = list(answers)

    async def json_patch(self, *_: object) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, ClusterError):
            raise answer
        return {"metadata": {"generation": answer}}


def _view(manager: str = "kubectl-rollout") -> View:
    observed = deployment(manager, PAUSED)
    observed["metadata"]["generation"] = 7
    metadata = CHILD.manifest["spec"]["template"]["metadata"]
    hash_ = metadata["annotations"]["cascadeservice.dev/template-hash"]
    return View(snapshot(stage(0, 3, template_hash=hash_)), None, {0: observed})


def _repairs(api: Api) -> Repairs:
    cluster = cast(ClusterApi, api)
    return Repairs(cluster, Children(cluster), IMAGES)


async def test_an_edit_is_undone_and_told_of() -> None:
    api = Api(8)
    done = await _repairs(api).undo(SPEC, _view())
    assert [(one.stage.index, one.traces[0].manager) for one in done] == [(0, "kubectl-rollout")]
    assert api.answers == []


async def test_an_undoing_that_was_overtaken_is_tried_again() -> None:
    api = Api(ClusterError(409, "Conflict", "changed meanwhile"), 8)
    repairs = _repairs(api)
    assert await repairs.undo(SPEC, _view()) == ()
    assert len(await repairs.undo(SPEC, _view())) == 1


async def test_what_the_server_writes_in_another_way_is_no_edit_and_is_tried_once() -> None:
    api = Api(7)
    repairs = _repairs(api)
    assert await repairs.undo(SPEC, _view()) == ()
    assert await repairs.undo(SPEC, _view()) == ()


async def test_a_deployment_that_waits_for_a_template_is_left_to_its_rollout() -> None:
    view = _view()
    old = View(snapshot(stage(0, 3, template_hash="old")), None, view.deployments)
    assert await _repairs(Api()).undo(SPEC, old) == ()
