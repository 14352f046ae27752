"""kubectl as a Python object: one process a call, errors that carry what kubectl said."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

JsonObject = dict[str, Any]


class KubectlFailed(RuntimeError):
    """kubectl ended with an error; `stderr` holds its words."""

    def __init__(self, arguments: Sequence[str], stderr: str) -> None:
        super().__init__(f"kubectl {' '.join(arguments)}: {stderr.strip()}")
        self.stderr = stderr


@dataclass(frozen=True)
class Kubectl:
    """A kubectl bound to one cluster and one namespace."""

    prefix: tuple[str, ...]
    namespace: str

    def within(self, namespace: str) -> "Kubectl":
        """The same cluster, another namespace."""
        return Kubectl(self.prefix, namespace)

    def command(self, *arguments: str) -> list[str]:
        """The full command line, for processes that stream."""
        return [*self.prefix, "--namespace", self.namespace, *arguments]

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Standard output of one call. Raises KubectlFailed."""
        try:
            done = subprocess.run(
                self.command(*arguments),
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise KubectlFailed(arguments, f"no answer within {timeout:g} s") from None
        if done.returncode != 0:
            raise KubectlFailed(arguments, done.stderr)
        return done.stdout

    def get(self, *arguments: str) -> JsonObject:
        """`kubectl get ... -o json`, parsed."""
        parsed: JsonObject = json.loads(self.run("get", *arguments, "-o", "json"))
        return parsed

    def items(self, *arguments: str) -> list[JsonObject]:
        """The items of a list."""
        found: list[JsonObject] = self.get(*arguments)["items"]
        return found

    def apply(self, *manifests: JsonObject) -> str:
        """`kubectl apply` of the manifests; what it printed (warnings are errors of the API)."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        return self.run("apply", "-f", "-", stdin=json.dumps(document))

    def merge(self, kind: str, name: str, patch: JsonObject) -> None:
        """A JSON merge patch."""
        self.run("patch", kind, name, "--type=merge", "-p", json.dumps(patch))

    def delete(self, *arguments: str, timeout: float = 120.0) -> None:
        """`kubectl delete`, absent objects ignored."""
        self.run("delete", "--ignore-not-found", *arguments, timeout=timeout)
