"""The rivals: how each is started in front of workers, and how it tells that it serves."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from e2e.bench.rivals.environment import install
from e2e.bench.rivals.process import HOST, Server, free_ports, serving


@dataclass(frozen=True)
class Rival:
    """A router that PyPI has a wheel of. `command` is what stands before the options that all of
    them share; `options` are its own."""

    name: str
    command: Sequence[str]
    ready: str
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def arguments(
        self, folder: Path, port: int, metrics_port: int, workers: Sequence[str], policy: str
    ) -> list[str]:
        """The whole command line; `folder` holds the commands."""
        program, *rest = self.command
        return [
            *(str(folder / program), *rest),
            *("--host", HOST, "--port", str(port)),
            *("--prometheus-host", HOST, "--prometheus-port", str(metrics_port)),
            *("--policy", policy, *self.options),
            *("--worker-urls", *workers),
        ]


# Both would log each request by default; a refused address keeps the second from asking a model
# hub for the tokenizer of a model that exists only here.
RIVALS: Final[Mapping[str, Rival]] = {
    rival.name: rival
    for rival in (
        Rival("vllm-router", ("vllm-router",), "/readiness", ("--log-level", "warning")),
        Rival(
            "sglang-router",
            ("sglang-router", "launch"),
            "/readiness",
            ("--log-level", "warn"),
            {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"},
        ),
    )
}


@contextmanager
def running(
    rival: Rival, workers: Sequence[str], folder: Path, policy: str = "round_robin"
) -> Iterator[Server]:
    """`rival` in front of `workers` (URLs of engines that serve already), its log in `folder`.

    Raises NotInstalled or NotServing.
    """
    port, metrics_port = free_ports(2)
    command = rival.arguments(install(), port, metrics_port, workers, policy)
    with serving(
        rival.name, command, port, folder, ready=rival.ready, environment=rival.environment
    ) as server:
        yield server
