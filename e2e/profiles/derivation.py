"""From kernel tables to a profile."""

from dataclasses import dataclass

from cascade_policy.engine_model import EngineModel
from e2e.profiles.document import write_profile
from e2e.profiles.fit import Errors, errors, fit
from e2e.profiles.kernel_tables import package_version, read_tables
from e2e.profiles.memory import KvMemory, kv_memory
from e2e.profiles.steps import Kind, steps
from e2e.profiles.targets import Target


@dataclass(frozen=True, slots=True)
class Derived:
    """A profile, and how well its model tells the times of steps."""

    target: Target
    model: EngineModel
    errors: dict[Kind, Errors]
    memory: KvMemory

    def file_text(self) -> str:
        """What its file holds."""
        return write_profile(self.target, package_version(), self.model, self.errors, self.memory)


def derive(target: Target) -> Derived:
    """Read the tables, put steps together, fit the model to them."""
    memory = kv_memory(target)
    measured = list(steps(target, read_tables(target), memory.tokens))
    model = fit(measured, _limits(target, memory))
    return Derived(target, model, {kind: errors(measured, kind, model) for kind in Kind}, memory)


def _limits(target: Target, memory: KvMemory) -> EngineModel:
    """A model with the target's limits, and times yet to be fitted."""
    return EngineModel(
        base_ms=1.0,
        per_sequence_ms=0.0,
        per_kv_token_ms=0.0,
        heterogeneity=0.0,
        prefill_ms_per_token=1.0,
        prefill_ms_per_token_squared=0.0,
        chunk_tokens=target.chunk_tokens,
        kv_capacity_tokens=memory.tokens,
        max_sequences=target.max_sequences,
        kv_bytes_per_token=memory.bytes_per_token,
    )
