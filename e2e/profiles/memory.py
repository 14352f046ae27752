"""How many tokens the KV cache of an instance holds."""

from dataclasses import dataclass
from typing import Final

from e2e.profiles.targets import VALUE_BYTES, Target

GIB: Final = 2**30
ENGINE_SHARE: Final = 0.9
"""Of a GPU's memory that vLLM takes (its default)."""
WORKSPACE_GIB: Final = 2.5
"""ASSUMED: activations, CUDA graphs and allocator, per GPU."""
EXCHANGE_GIB: Final = 0.4
"""ASSUMED: buffers of the exchange between GPUs, per GPU; the kernel tables' package counts 0.33
to 0.38."""
ROUND_TO: Final = 10_000
"""Tokens: the assumptions allow no finer figure."""


@dataclass(frozen=True, slots=True)
class KvMemory:
    """The derivation of a KV capacity; GiB per GPU."""

    gpu_gib: float
    weights_gib: float
    reserve_gib: float
    bytes_per_token: int
    """On all GPUs of the instance together."""
    tokens: int


def kv_memory(target: Target) -> KvMemory:
    """What the engine's share of the memory leaves beside weights and workspace."""
    shared = target.gpus_per_instance
    bytes_per_token = target.shape.layers * target.shape.layer_kv_bytes
    weights = target.shape.parameters * VALUE_BYTES / shared / GIB
    reserve = WORKSPACE_GIB + (EXCHANGE_GIB if shared > 1 else 0.0)
    left = target.gpu.memory_gib * ENGINE_SHARE - weights - reserve
    tokens = int(left * shared * GIB / bytes_per_token)
    return KvMemory(
        gpu_gib=target.gpu.memory_gib,
        weights_gib=round(weights, 2),
        reserve_gib=reserve,
        bytes_per_token=bytes_per_token,
        tokens=tokens // ROUND_TO * ROUND_TO,
    )
