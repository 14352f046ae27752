"""Load from inside the cluster: a pod that replays a trace and reports in JSON lines."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from e2e.harness.deadline import until
from e2e.harness.kubectl import JsonObject, Kubectl

Progress = Callable[[JsonObject], None]


def unwatched(_record: JsonObject) -> None:
    """A progress that nobody looks at."""


class LoadFailed(RuntimeError):
    """The load pod ended without a summary; the message holds its last words."""


@dataclass(frozen=True)
class LoadOptions:
    """What to replay. Rates in requests per second of wall time, durations in seconds."""

    url: str
    requests_per_second: float
    duration: float
    trace: str = "azure"
    offset: float = 0.0
    exclude_first: float = 0.0
    longest_answer: int = 0
    seed: int = 1
    model: str = "demo-model"
    extra: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        return [
            "--url", self.url, "--trace", self.trace, "--model", self.model,
            "--requests-per-second", str(self.requests_per_second),
            "--duration", str(self.duration), "--offset", str(self.offset),
            "--exclude-first", str(self.exclude_first),
            "--longest-answer", str(self.longest_answer), "--seed", str(self.seed),
            *self.extra,
        ]  # fmt: skip


def pod_manifest(name: str, image: str, options: LoadOptions) -> JsonObject:
    """A pod, run once, that may run under the restricted Pod Security level."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "cascade-load"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 30,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "load",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-m", "e2e.load"],
                    "args": options.arguments(),
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


PHASE = "jsonpath={.status.phase}"


@dataclass
class RunningLoad:
    """A load pod whose output is being read."""

    kubectl: Kubectl
    name: str
    process: subprocess.Popen[str]

    def records(self) -> Iterator[JsonObject]:
        """The pod's records as they come, the summary last; from the first one again where the
        API server, through which they come, went away meanwhile."""
        while True:
            assert self.process.stdout is not None
            for line in self.process.stdout:
                if line.startswith("{"):
                    record: JsonObject = json.loads(line)
                    yield record
            if self.kubectl.run("get", "pod", self.name, "-o", PHASE) != "Running":
                return
            self.close()
            self.process = _follow(self.kubectl, self.name)

    def close(self) -> None:
        """Read no more."""
        self.process.terminate()
        self.process.wait(timeout=10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def summary(self, progress: Progress = unwatched) -> JsonObject:
        """Read to the end; the summary. Raises LoadFailed."""
        found: JsonObject | None = None
        for record in self.records():
            if record.get("kind") == "summary":
                found = record
            else:
                progress(record)
        if found is None:
            words = self.kubectl.run("logs", self.name, "--tail=20")
            raise LoadFailed(f"load pod {self.name} ended without a summary:\n{words}")
        return found

    def wait_for(self, name: str, least: int) -> int:
        """Read on until this number of a progress record, such as `inFlight`, is at least `least`;
        what it is then. Raises LoadFailed."""
        for record in self.records():
            if record["kind"] == "progress" and record[name] >= least:
                return int(record[name])
        raise LoadFailed(f"load pod {self.name} ended before {name} was {least}")

    def stop(self) -> None:
        """Ask the load to end now; it finishes what is in flight and prints its summary."""
        self.kubectl.run(
            "exec", self.name, "--", "python3", "-c",
            "import os, signal; os.kill(1, signal.SIGTERM)",
        )  # fmt: skip


def _follow(kubectl: Kubectl, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        kubectl.command("logs", "--follow", name),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


@contextmanager
def running_load(
    kubectl: Kubectl, name: str, image: str, options: LoadOptions
) -> Iterator[RunningLoad]:
    """Start a load pod and follow it; the pod is deleted at the end."""
    kubectl.delete("pod", name)
    kubectl.apply(pod_manifest(name, image, options))
    until(
        f"load pod {name} started",
        lambda: kubectl.run("get", "pod", name, "-o", PHASE) != "Pending",
        seconds=90,
        seen=lambda: kubectl.run("get", "pod", name, "-o", "wide"),
    )
    load = RunningLoad(kubectl, name, _follow(kubectl, name))
    try:
        yield load
    finally:
        load.close()
        kubectl.delete("pod", name, "--wait=false")


def replay(
    kubectl: Kubectl,
    name: str,
    image: str,
    options: LoadOptions,
    progress: Progress = unwatched,
) -> dict[str, Any]:
    """Run one load to its end; its summary."""
    with running_load(kubectl, name, image, options) as load:
        return load.summary(progress)
