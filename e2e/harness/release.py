"""The chart, installed as a user installs it."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.harness.kubectl import Kubectl

RELEASE = "cascade"
CHART = Path(__file__).resolve().parents[2] / "charts" / "cascade"


class HelmFailed(RuntimeError):
    """helm ended with an error; the message is helm's."""


@dataclass(frozen=True)
class Images:
    """References of the images, as the cluster's nodes know them."""

    operator: str
    router: str
    engine_simulator: str
    prometheus: str | None = None
    """None: the chart's own default, pulled from a registry."""


def values(images: Images) -> dict[str, Any]:
    """Chart values for a small machine: our images, short scrape interval."""
    chart_values: dict[str, Any] = {
        "image": _split(images.operator),
        "router": {"image": _split(images.router)},
        "simulatedEngine": {"image": _split(images.engine_simulator)},
        "prometheus": {"scrapeInterval": "2s"},
    }
    if images.prometheus is not None:
        chart_values["prometheus"]["image"] = _split(images.prometheus)
    return chart_values


def _split(reference: str) -> dict[str, str]:
    repository, _, tag = reference.rpartition(":")
    return {"repository": repository, "tag": tag}


@dataclass(frozen=True)
class Helm:
    """A helm binary bound to one cluster."""

    binary: Path
    kubeconfig: Path

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 240.0) -> str:
        """Standard output of one call. Raises HelmFailed."""
        done = subprocess.run(
            [str(self.binary), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise HelmFailed(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def install(
        self,
        namespace: str,
        chart_values: Mapping[str, Any],
        *,
        release: str = RELEASE,
        wait: bool = True,
    ) -> str:
        """`helm upgrade --install` of the chart; waits until its Deployments are available."""
        arguments = [
            "upgrade", "--install", release, str(CHART), "--namespace", namespace,
            "--create-namespace", "--values", "-",
        ]  # fmt: skip
        if wait:
            arguments += ["--wait", "--timeout", "3m"]
        return self.run(*arguments, stdin=json.dumps(chart_values))

    def uninstall(self, namespace: str, *, release: str = RELEASE) -> None:
        """`helm uninstall --wait`; an absent release is fine."""
        self.run("uninstall", release, "--namespace", namespace, "--wait", "--ignore-not-found")


def apply_crd(kubectl: Kubectl) -> None:
    """Bring the CRD to the chart's version: helm installs CRDs once and never upgrades them."""
    kubectl.run("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))
    kubectl.run(
        "wait", "--for=condition=Established", "crd/cascadeservices.cascadeservice.dev",
        "--timeout=30s",
    )  # fmt: skip


def images_of(built: Mapping[str, str]) -> Images:
    """The images that e2e.cluster built, by role."""
    return Images(
        operator=built["operator"],
        router=built["router"],
        engine_simulator=built["engine-simulator"],
        prometheus=built.get("prometheus"),
    )
