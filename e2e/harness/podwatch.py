"""Eyes on the pods of a service, from a watch: nothing that happens in between is missed."""

import json
import subprocess
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

from cascade_policy import names
from e2e.harness.service import PodFacts, Service, pod_facts


@dataclass(frozen=True)
class Move:
    """That a pod got another stage label."""

    pod: str
    source: str
    """The stage that it left."""
    at: float
    """Unix seconds at which it was seen; a little later than it happened."""


@dataclass
class Sightings:
    """What the watch has seen since it began."""

    pods: dict[str, PodFacts] = field(default_factory=dict)
    moves: int = 0
    first_move: float = 0.0
    last_move: float = 0.0
    """Monotonic seconds of the first and the last move."""
    moved: list["Move"] = field(default_factory=list)
    most_bound: int = 0
    most_ready: int = 0
    most_missing: int = 0
    """The most pods that were not ready, or were ending, of those that had been ready at once."""
    lost: list[str] = field(default_factory=list)
    """Names of bound pods that were deleted or began to terminate."""
    restarted: list[str] = field(default_factory=list)

    def see(self, kind: str, pod: PodFacts, now: float) -> None:
        """Take in one watch event at `now`, monotonic seconds."""
        before = self.pods.get(pod.uid)
        if before is not None and before.bound and before.stage != pod.stage:
            self.moves += 1
            self.moved.append(Move(pod.name, before.stage, time.time()))
            self.first_move = self.first_move or now
            self.last_move = now
        if before is not None and pod.restarts > before.restarts:
            self.restarted.append(pod.name)
        gone = kind == "DELETED"
        if pod.bound and (pod.terminating or gone) and not (before and before.terminating):
            self.lost.append(pod.name)
        if gone:
            self.pods.pop(pod.uid, None)
        else:
            self.pods[pod.uid] = pod
        bound = sum(1 for seen in self.pods.values() if seen.bound and not seen.ended)
        self.most_bound = max(self.most_bound, bound)
        ready = sum(1 for seen in self.pods.values() if seen.ready and not seen.terminating)
        self.most_ready = max(self.most_ready, ready)
        self.most_missing = max(self.most_missing, self.most_ready - ready)


class PodWatch:
    """`kubectl get pods --watch` in the background; use it as a context manager.

    With `resumes` it begins again when the API server goes away, and may miss what happened then.
    """

    def __init__(self, service: Service, *, resumes: bool = False) -> None:
        self._service = service
        self._resumes = resumes
        self._sightings = Sightings()
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.broken = False
        """Whether the watch ended by itself: what it says is then not the whole truth."""

    def __enter__(self) -> "PodWatch":
        self._process = self._start()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        assert self._reader is not None
        with self._changed:
            process, self._process = self._process, None
        process.terminate()
        process.wait(timeout=10)
        self._reader.join(timeout=10)
        _close(process)

    @property
    def moves(self) -> int:
        with self._changed:
            return self._sightings.moves

    @property
    def moved(self) -> list[Move]:
        """All moves, in their order."""
        with self._changed:
            return list(self._sightings.moved)

    @property
    def move_seconds(self) -> float:
        """Seconds from the first to the last move."""
        with self._changed:
            return self._sightings.last_move - self._sightings.first_move

    @property
    def most_bound(self) -> int:
        """The most pods that were bound to a node at one moment."""
        with self._changed:
            return self._sightings.most_bound

    @property
    def most_missing(self) -> int:
        """The most pods that were away at one moment, over all stages."""
        with self._changed:
            return self._sightings.most_missing

    @property
    def lost(self) -> list[str]:
        with self._changed:
            return list(self._sightings.lost)

    @property
    def restarted(self) -> list[str]:
        with self._changed:
            return list(self._sightings.restarted)

    def wait_moves(self, count: int, *, seconds: float) -> int:
        """Wait until at least `count` moves have been seen; how many there were."""
        with self._changed:
            self._changed.wait_for(lambda: self._sightings.moves >= count, timeout=seconds)
            return self._sightings.moves

    def _start(self) -> subprocess.Popen[str]:
        command = self._service.kubectl.command(
            "get", "pods", "-l", f"{names.LABEL_SERVICE}={self._service.name}",
            "--watch", "--output-watch-events", "-o", "json",
        )  # fmt: skip
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )

    def _read(self) -> None:
        process = self._process
        while process is not None:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                with self._changed:
                    self._sightings.see(event["type"], pod_facts(event["object"]), time.monotonic())
                    self._changed.notify_all()
            process = self._next(process)

    def _next(self, ended: subprocess.Popen[str]) -> subprocess.Popen[str] | None:
        """The watch after one that ended by itself; None when nobody looks any more."""
        with self._changed:
            if self._process is None:
                return None
            if not self._resumes:
                self.broken = True
                return None
            _close(ended)
            ended.wait(timeout=10)
            self._process = self._start()
            return self._process


def _close(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.stdout.close()
