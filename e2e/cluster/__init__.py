"""Real Kubernetes clusters: a user's own, kind, or upstream Kubernetes on this machine.

Owns how a cluster is chosen, made, filled with images and taken away. Knows nothing of the
operator, the chart or the scenarios; it knows the project's Dockerfiles only by their paths.
"""

from e2e.cluster.api_server import ApiServer, api_server
from e2e.cluster.choice import Choice, Facts, choose
from e2e.cluster.errors import ClusterError, Unsupported
from e2e.cluster.interface import Cluster
from e2e.cluster.progress import Progress, Stopwatch
from e2e.cluster.providers import build_images, down, up

__all__ = [
    "ApiServer",
    "Choice",
    "Cluster",
    "ClusterError",
    "Facts",
    "Progress",
    "Stopwatch",
    "Unsupported",
    "api_server",
    "build_images",
    "choose",
    "down",
    "up",
]
