"""Routers of other projects, to be measured and checked beside ours: installed from their wheels
in an environment of their own, started in front of given workers, stopped at the end.

    with running(RIVALS["vllm-router"], worker_urls, log_folder) as router:
        ...  # clients go to router.url
"""

from e2e.bench.rivals.environment import NotInstalled, install, versions
from e2e.bench.rivals.process import NotServing, Server
from e2e.bench.rivals.routers import RIVALS, Rival, running

__all__ = [
    "RIVALS",
    "NotInstalled",
    "NotServing",
    "Rival",
    "Server",
    "install",
    "running",
    "versions",
]
