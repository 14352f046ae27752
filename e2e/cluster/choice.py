"""Which provider to use: a decision from facts, and the gathering of the facts."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.builders import docker_runs
from e2e.cluster.errors import ClusterError
from e2e.cluster.shell import succeeds

PROVIDERS = ("current", "kind", "local")
IMAGE_REPOSITORY_VARIABLE = "CASCADE_IMAGE_REPOSITORY"
KIND_IMAGE_VARIABLE = "CASCADE_KIND_IMAGE"
KIND_DEFAULT_IMAGE = "kindest/node:v1.37.0"
"""What kind v0.33 would take by itself."""


@dataclass(frozen=True)
class Facts:
    """What matters about this machine and its user's settings.

    kubeconfig: the file that KUBECONFIG names, or the usual one if it exists. node_image: kind's
    node image that is there or can be pulled.
    """

    kubeconfig: Path | None = None
    is_kubeconfig_reachable: bool = False
    image_repository: str | None = None
    is_docker_running: bool = False
    node_image: str | None = None
    is_linux: bool = True
    is_root: bool = False
    has_go: bool = False


@dataclass(frozen=True)
class Choice:
    """A provider, why it was chosen, and the facts behind it."""

    provider: str
    reason: str
    facts: Facts


def choose(requested: str | None = None) -> Choice:
    """Look at this machine and decide; `requested` is a provider or None for the best there is.

    Raises ClusterError that says what is missing when there is none.
    """
    return decide(requested, gather(requested))


def decide(requested: str | None, facts: Facts) -> Choice:
    """The provider asked for if it can work, else the first that can; a pure function."""
    if requested is not None and requested not in PROVIDERS:
        raise ClusterError(f"there is no provider {requested}; there are {', '.join(PROVIDERS)}")
    obstacles = {
        "current": _obstacle_to_current(facts, is_requested=requested == "current"),
        "kind": _obstacle_to_kind(facts),
        "local": _obstacle_to_local(facts),
    }
    for provider in PROVIDERS if requested is None else [requested]:
        if obstacles[provider] is None:
            return Choice(provider, _reason(provider, facts, obstacles, requested), facts)
    looked = {requested: obstacles[requested]} if requested else obstacles
    listing = "\n".join(f"    {name}: {why}" for name, why in looked.items())
    raise ClusterError(f"no cluster can be had here:\n{listing}")


def _obstacle_to_current(facts: Facts, *, is_requested: bool) -> str | None:
    """Why the user's own cluster cannot be used, or None.

    Unasked, it is used only when the user also said where its images may go: nothing is installed
    into a cluster that merely happened to be configured.
    """
    if facts.kubeconfig is None:
        return "KUBECONFIG is not set; set it to the kubeconfig of your cluster"
    if not facts.is_kubeconfig_reachable:
        return f"{facts.kubeconfig} does not work with `kubectl get nodes`, or there is no kubectl"
    if facts.image_repository is None and not is_requested:
        return (
            f"{IMAGE_REPOSITORY_VARIABLE} is not set; set it to a registry path that the cluster "
            "can pull from, or ask for `--cluster current` if it holds the images already"
        )
    return None


def _obstacle_to_kind(facts: Facts) -> str | None:
    """Why kind cannot be used, or None."""
    if not facts.is_docker_running:
        return "no container engine answers `docker info`; start docker"
    if facts.node_image is None:
        return (
            f"the node image {KIND_DEFAULT_IMAGE} is neither here nor can it be pulled; name one "
            f"in {KIND_IMAGE_VARIABLE}"
        )
    return None


def _obstacle_to_local(facts: Facts) -> str | None:
    """Why Kubernetes cannot be run here, or None."""
    if not facts.is_linux:
        return "this is not Linux"
    if not facts.is_root:
        return "only root can make namespaces and mounts; run as root"
    if not facts.has_go:
        return "Go is not installed; install Go 1.25 or newer (https://go.dev/dl)"
    return None


def _reason(
    provider: str, facts: Facts, obstacles: dict[str, str | None], requested: str | None
) -> str:
    """Why this provider, in words for the user."""
    merits = {
        "current": f"KUBECONFIG names {facts.kubeconfig}, and its API server answers",
        "kind": f"a container engine runs and there is the node image {facts.node_image}",
        "local": "upstream Kubernetes can be built and run here, as root with Go",
    }
    if requested is not None:
        return f"asked for; {merits[provider]}"
    passed = PROVIDERS[: PROVIDERS.index(provider)]
    return "; ".join([merits[provider], *(f"not {name}: {obstacles[name]}" for name in passed)])


def gather(requested: str | None = None) -> Facts:
    """The facts about this machine; what only another provider would need is not looked at."""
    wants = {requested} if requested else set(PROVIDERS)
    kubeconfig = _kubeconfig() if "current" in wants else None
    has_docker = docker_runs()
    return Facts(
        kubeconfig=kubeconfig,
        is_kubeconfig_reachable=kubeconfig is not None and _answers(kubeconfig),
        image_repository=os.environ.get(IMAGE_REPOSITORY_VARIABLE) or None,
        is_docker_running=has_docker,
        node_image=_node_image() if has_docker and "kind" in wants else None,
        is_linux=sys.platform == "linux",
        is_root=os.geteuid() == 0,
        has_go=shutil.which("go") is not None,
    )


def _kubeconfig() -> Path | None:
    named = os.environ.get("KUBECONFIG")
    if named:
        return Path(named)
    usual = Path.home() / ".kube" / "config"
    return usual if usual.exists() else None


def _answers(kubeconfig: Path) -> bool:
    """Whether the API server answers; asked with kubectl, which knows every way to log in."""
    command = ["kubectl", f"--kubeconfig={kubeconfig}", "get", "--raw=/readyz"]
    return kubeconfig.exists() and succeeds([*command, "--request-timeout=5s"])


def _node_image() -> str | None:
    """kind's node image: the named one, or its default where that is here or can be had."""
    named = os.environ.get(KIND_IMAGE_VARIABLE)
    if named:
        return named
    here = succeeds(["docker", "image", "inspect", KIND_DEFAULT_IMAGE])
    if here or succeeds(["docker", "manifest", "inspect", KIND_DEFAULT_IMAGE], timeout=15):
        return KIND_DEFAULT_IMAGE
    return None
