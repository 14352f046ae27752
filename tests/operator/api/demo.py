"""A CascadeService that an operator and a played kubelet look after."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from e2e.cluster import ApiServer
from tests.operator.api.conftest import Kubectl, kubelet, operator
from tests.operator.api.kubelet import Kubelet
from tests.operator.api.test_crd import manifest


@asynccontextmanager
async def demo(
    kubectl: Kubectl, server: ApiServer, folder: Path, **spec: Any
) -> AsyncIterator[Kubelet]:
    """The CascadeService `demo` of this spec is applied, and looked after until the block ends."""
    async with (
        kubelet(server, kubectl.namespace) as node,
        operator(server, kubectl.namespace, folder),
    ):
        assert kubectl.apply(manifest(kubectl, **spec)).returncode == 0
        yield node
