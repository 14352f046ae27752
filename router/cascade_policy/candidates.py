"""Who may get a sequence: the instances that the plan names for its length."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from cascade_policy.load import InstanceLoad
from cascade_policy.stage_map import Boundaries

MAX_ASKED: Final = 16
"""Instances that are asked for a bid; those of the own stage are sampled beyond that."""
NEIGHBOURS_ASKED: Final = 2
"""Instances asked in each neighbouring stage (soft boundaries) in any case."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance, the stage it serves, its load as last heard, and what it holds of the prompt."""

    instance: str
    stage: int
    load: InstanceLoad
    cached: int = 0
    """Tokens at the start of the sequence that its prefix cache holds."""
    fits: bool | None = None
    """Whether the sequence fits beside what it has; None: to be judged by its load."""


class Staged(Protocol):
    """Anything that serves a stage."""

    @property
    def stage(self) -> int:
        """Index of the stage."""


T = TypeVar("T", bound=Staged)
Item = TypeVar("Item")


def whom_to_ask(
    instances: Iterable[T],
    stage: int,
    boundaries: Boundaries,
    fullness: Callable[[T], int],
    random: Callable[[], float],
) -> list[T]:
    """Those of `instances` to ask about a sequence of `stage`.

    All of its stage, sampled beyond MAX_ASKED (`random` gives 0 <= x < 1). With soft boundaries
    also those of other stages with the least `fullness`, the nearest stages first: as many as are
    left of MAX_ASKED, and NEIGHBOURS_ASKED of each neighbouring stage however many are asked by
    then. (Of 16 instances, to ask all rather than the stage and two of each neighbour was worth 3 %
    of the mean end-to-end time where KV caches are copied, and nothing where not.) An empty stage
    falls to the nearest one that is not, the longer one first.
    """
    by_stage: dict[int, list[T]] = {}
    for instance in instances:
        by_stage.setdefault(instance.stage, []).append(instance)
    if not by_stage:
        return []
    nearest, *others = sorted(by_stage, key=lambda index: (abs(index - stage), -index))
    chosen = sample(by_stage[nearest], MAX_ASKED, random)
    if boundaries is Boundaries.SOFT:
        for other in others:
            least = NEIGHBOURS_ASKED if abs(other - stage) == 1 else 0
            count = max(least, MAX_ASKED - len(chosen))
            group = by_stage[other]
            chosen += group if len(group) <= count else sorted(group, key=fullness)[:count]
    return chosen


def sample(instances: Sequence[Item], count: int, random: Callable[[], float]) -> list[Item]:
    """At most `count` of `instances`: neighbours in their order, from a random place on."""
    if len(instances) <= count:
        return list(instances)
    start = int(random() * len(instances))
    return [instances[(start + offset) % len(instances)] for offset in range(count)]
