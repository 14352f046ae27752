"""The chart as its users meet it: a folder that the real helm renders, or refuses."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "charts" / "cascade"
RELEASE = "cascade"
NAMESPACE = "cascade-system"
KUBE_VERSION = "1.34.0"

Manifest = dict[str, Any]
Values = dict[str, Any]


class Refused(Exception):
    """helm refused the values; the message holds its words."""


@dataclass(frozen=True)
class Chart:
    """The chart, together with the helm that renders it."""

    helm: Path
    release: str = RELEASE
    namespace: str = NAMESPACE

    def text(self, values: Values | None = None) -> str:
        """The rendered manifests, as helm prints them. Raises Refused."""
        return self._helm(
            "template",
            self.release,
            "--namespace",
            self.namespace,
            "--kube-version",
            KUBE_VERSION,
            values=values,
        )

    def manifests(self, values: Values | None = None) -> list[Manifest]:
        """The rendered manifests, parsed. Raises Refused."""
        return [document for document in yaml.safe_load_all(self.text(values)) if document]

    def lint(self, values: Values | None = None) -> str:
        """What `helm lint --strict` says. Raises Refused."""
        return self._helm("lint", "--strict", values=values)

    def _helm(self, command: str, *arguments: str, values: Values | None) -> str:
        """One call; the values go in by standard input."""
        done = subprocess.run(
            [self.helm, command, *arguments, str(FOLDER), "--values", "-"],
            input=json.dumps(values or {}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise Refused(done.stderr + done.stdout)
        return done.stdout


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one manifest of this kind and name."""
    (found,) = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def pods(manifests: list[Manifest]) -> list[Manifest]:
    """The pod specs in all manifests."""
    return [m["spec"]["template"]["spec"] for m in manifests if m["kind"] == "Deployment"]
