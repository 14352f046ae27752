"""Which engine stands behind the routers, and how one is started."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class EngineStart:
    """How one engine is started. `environment` adds to that of this process."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class EngineKind(Protocol):
    """A choice of engine."""

    @property
    def start_seconds(self) -> float:
        """How long it may take until it serves."""

    @property
    def stop_seconds(self) -> float:
        """How long it may take to clean up when it is told to end; 0: it has nothing to clean."""

    def start(self, model: str, max_length: int, port: int) -> EngineStart:
        """An engine that serves `model`, sequences up to `max_length` tokens, on loopback."""


@dataclass(frozen=True)
class SimulatedEngine:
    """The engine simulator. `coefficients` change its model of a step."""

    coefficients: Mapping[str, float] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    start_seconds: float = 60.0
    stop_seconds: float = 0.0

    def start(self, model: str, max_length: int, port: int) -> EngineStart:
        """By module name, with faults on demand."""
        options = [
            *("--model", model, "--port", str(port), "--max-length", str(max_length)),
            *("--coefficients", json.dumps(dict(self.coefficients)), "--allow-faults"),
            *self.arguments,
        ]
        return EngineStart([sys.executable, "-m", "e2e.engine_simulator", *options])
