"""kubectl and helm for clusters that bring none of their own."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.binaries import CLIENTS, KUBERNETES, is_built, programs_folder
from e2e.cluster.progress import Progress


@dataclass(frozen=True)
class Clients:
    """Paths of the two programs."""

    kubectl: Path
    helm: Path


def clients(progress: Progress) -> Clients:
    """Those built for the local cluster, else those in PATH, else built now."""
    kubectl, helm = shutil.which("kubectl"), shutil.which("helm")
    if kubectl and helm and not is_built(KUBERNETES):
        return Clients(Path(kubectl), Path(helm))
    folder = programs_folder(KUBERNETES if is_built(KUBERNETES) else CLIENTS, progress)
    return Clients(folder / "kubectl", folder / "helm")
