"""The clusters by hand: `python -m e2e.cluster up | down | status | env | images`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import Stopwatch, build_images, choose, down, up
from e2e.cluster.choice import PROVIDERS
from e2e.cluster.errors import ClusterError
from e2e.cluster.interface import Cluster
from e2e.cluster.local import cluster as local
from e2e.cluster.progress import Progress
from e2e.cluster.shell import succeeds

DESCRIPTION = "Makes a Kubernetes cluster for tests and for trying things out, and removes it."


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit status."""
    options = _parser().parse_args(arguments)
    progress = Stopwatch()
    requested = None if options.cluster == "auto" else str(options.cluster)
    try:
        match options.command:
            case "up":
                return _up(requested, progress, with_images=options.images)
            case "down":
                down(progress)
                return 0
            case "status":
                return _status()
            case _:
                return _env()
    except ClusterError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description=DESCRIPTION)
    parser.add_argument(
        "command",
        choices=("up", "down", "status", "env"),
        help="up: make or find a cluster; down: remove it; status: does the local one run; "
        "env: shell lines that point kubectl at it",
    )
    parser.add_argument(
        "--cluster",
        choices=("auto", *PROVIDERS),
        default="auto",
        help="your KUBECONFIG, kind, or Kubernetes run here; default: the best there is",
    )
    parser.add_argument(
        "--images", action="store_true", help="with up: build the images and load them as well"
    )
    return parser


def _up(requested: str | None, progress: Progress, *, with_images: bool) -> int:
    choice = choose(requested)
    progress(f"{choice.provider}: {choice.reason}")
    cluster = up(choice, progress, with_images=with_images)
    if with_images:
        images = build_images(cluster, progress)
        progress("loading the images")
        cluster.load_images(images)
        for role, reference in images.items():
            progress(f"{role}: {reference}")
    _print_environment(cluster)
    return 0


def _status() -> int:
    """0 and a line if the local cluster is healthy, else 1."""
    running = local.attach()
    if running is None or not running.is_healthy():
        sys.stdout.write("no healthy local cluster\n")
        return 1
    nodes = succeeds([*running.kubectl, "get", "nodes"])
    sys.stdout.write(f"local cluster runs, nodes can be listed: {nodes}\n")
    return 0 if nodes else 1


def _env() -> int:
    running = local.attach()
    if running is None:
        raise ClusterError("no local cluster runs: `python -m e2e.cluster up`")
    _print_environment(running)
    return 0


def _print_environment(cluster: Cluster) -> None:
    """Shell lines for `eval`."""
    programs = Path(cluster.kubectl[0]).parent
    sys.stdout.write(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}\n")
    sys.stdout.write(f'export PATH={shlex.quote(str(programs))}:"$PATH"\n')


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
