"""What is told of acts and losses, as Events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cascade_operator.acts import Act, some
from cascade_operator.events import Happening
from cascade_operator.managers import traces, who
from cascade_operator.reasons import Reason
from cascade_policy import names

Json = Mapping[str, Any]

_REPLACED: Final = "replacements start"


@dataclass(frozen=True, slots=True)
class Loss:
    """An instance that ended without the operator's doing."""

    name: str
    stage: int | None
    how: str
    certain: bool = False
    """Whether the cluster itself says how, so that no other explanation is looked for."""
    rolled: bool = False
    """Whether its stage rolled out a template: who else wants it gone has an act."""


def of_act(act: Act) -> Happening:
    """An act whose cost is known."""
    lost = len(act.lost)
    cost = "no instance was lost"
    if lost:
        cost = f"{_count(lost)} lost, {some(act.lost)}; {_REPLACED}"
    return Happening(act.reason, f"{act.what}: {act.answer}; {cost}.", warning=bool(lost))


def of_restart(act: Act) -> Happening:
    """A restart, whose cost is known before."""
    return Happening(act.reason, f"{act.what}: {act.answer}.", warning=False)


def of_taken_out(pod: str, answer: Json) -> Happening:
    """A pod that runs on without the labels of the service; `answer` is the whole pod."""
    labels = answer["metadata"].get("labels") or {}
    missing = names.LABEL_SERVICE_UID if names.LABEL_SERVICE in labels else names.LABEL_SERVICE
    found = traces(answer, "metadata", "labels", missing)
    words = (
        f"{who(found)} took or changed the label {missing} of pod {pod}: it runs on and "
        "keeps its GPUs, and a replacement starts; 1 instance lost. Delete the pod, or put the "
        "label back to take it in again."
    )
    return Happening(Reason.INSTANCE_TAKEN_OUT, words, warning=True)


def of_losses(losses: Iterable[Loss]) -> Iterable[Happening]:
    """Losses that no act explains, by their cause."""
    by_cause: dict[str, list[str]] = {}
    for loss in losses:
        by_cause.setdefault(loss.how, []).append(loss.name)
    for how, lost in by_cause.items():
        what = how.replace("{}", some(lost), 1)
        words = f"{what}: {_count(len(lost))} lost; {_REPLACED}."
        yield Happening(Reason.INSTANCE_LOST, words, warning=True)


def _count(number: int) -> str:
    return f"{number} instance was" if number == 1 else f"{number} instances were"
