"""A request on its way through slices, and the batches it is served in."""

from collections.abc import Sequence
from dataclasses import dataclass

from cascade_simulator.workload import Request


@dataclass(slots=True)
class Task:
    """A request with its progress. Lengths in tokens."""

    id: int
    """Index of the request in the workload."""
    length: int
    """Prompt and tokens emitted so far: what its next batch prefills."""
    remaining: int
    """Tokens it will still emit; schedulers do not look at it."""

    @classmethod
    def of(cls, id: int, request: Request) -> "Task":
        """A request that has just arrived."""
        return cls(id, request.prompt, request.output)

    def advance(self, steps: int) -> int:
        """It was in a batch for `steps` decode steps; the tokens that it emitted."""
        emitted = min(steps, self.remaining)
        self.length += emitted
        self.remaining -= emitted
        return emitted


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks that an instance serves as one block, padded to the longest."""

    tasks: tuple[Task, ...]
    estimate_ms: float = 0.0
    """What the scheduler thinks it takes."""

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def length(self) -> int:
        """Length that all of them are padded to."""
        return max(task.length for task in self.tasks)

    def steps(self, limit: int) -> int:
        """Decode steps until all have finished or `limit` is reached."""
        return min(limit, max(task.remaining for task in self.tasks))


def padding(tasks: Sequence[Task]) -> int:
    """Tokens of prompt that a batch of `tasks` computes for nothing."""
    longest = max(task.length for task in tasks)
    return sum(longest - task.length for task in tasks)
