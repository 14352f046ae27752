"""From a choice to a cluster and back to nothing: the three providers behind one door."""

from e2e.cluster import current, images, kind
from e2e.cluster.choice import Choice
from e2e.cluster.interface import Cluster
from e2e.cluster.local import cluster as local
from e2e.cluster.progress import Progress


def up(choice: Choice, progress: Progress, *, with_images: bool = True) -> Cluster:
    """A running cluster of the chosen provider: the one that runs already, else a new one.

    On a machine where nothing is built yet, the local provider builds the project's images beside
    its own programs, unless told otherwise. Raises ClusterError.
    """
    if choice.provider == "current":
        return current.up(choice.facts, progress)
    if choice.provider == "kind":
        return kind.up(choice.facts, progress)
    return local.up(progress, with_images=with_images)


def build_images(cluster: Cluster, progress: Progress) -> dict[str, str]:
    """Build the images that are not built for the sources as they are; role to reference.

    Roles: `operator`, `router`, `engine-simulator`, and `prometheus` where the cluster cannot
    pull the official one. Hand them to the cluster's load_images. Raises ClusterError.
    """
    return images.build_for(cluster.provider, progress)


def down(progress: Progress) -> None:
    """Remove every cluster that was made here; a cluster of the user's own is left alone."""
    local.down(progress)
    kind.down(progress)
