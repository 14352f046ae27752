"""What is profiled: model classes, GPUs, and how an instance puts them together."""

from dataclasses import dataclass
from typing import Final

VALUE_BYTES: Final = 2
"""Of a weight, an activation and a KV entry: bf16."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A dense transformer with grouped-query attention and a gated feed-forward network."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """Weights of all layers, the embedding and the (untied) output head."""
        attention = self.hidden * self.head_size * 2 * (self.heads + self.kv_heads)
        layer = attention + 3 * self.hidden * self.feed_forward + 2 * self.hidden
        return self.layers * layer + (2 * self.vocabulary + 1) * self.hidden

    @property
    def layer_kv_bytes(self) -> int:
        """KV cache of one token in one layer, on all GPUs of the instance together."""
        return 2 * self.kv_heads * self.head_size * VALUE_BYTES


@dataclass(frozen=True, slots=True)
class Gpu:
    """One kind of GPU."""

    system: str
    """Its name in the kernel tables."""
    name: str
    memory_gib: float
    """As CUDA reports it."""
    l2_bytes: int


@dataclass(frozen=True, slots=True)
class Target:
    """A profile to derive: what an instance is, and the limits that its engine is started with."""

    profile: str
    shape: ModelShape
    gpu: Gpu
    gpus_per_instance: int
    """GPUs that share each layer (tensor parallelism)."""
    max_sequences: int
    chunk_tokens: int = 2048


LLAMA_8B: Final = ModelShape(
    name="8B class: Llama-3.1-8B, bf16",
    layers=32,
    hidden=4096,
    heads=32,
    kv_heads=8,
    head_size=128,
    feed_forward=14336,
    vocabulary=128256,
)
LLAMA_70B: Final = ModelShape(
    name="70B class: Llama-3.1-70B, bf16",
    layers=80,
    hidden=8192,
    heads=64,
    kv_heads=8,
    head_size=128,
    feed_forward=28672,
    vocabulary=128256,
)

H100: Final = Gpu("h100_sxm", "NVIDIA H100 SXM 80 GB", memory_gib=79.2, l2_bytes=50 * 2**20)
H200: Final = Gpu("h200_sxm", "NVIDIA H200 SXM 141 GB", memory_gib=139.8, l2_bytes=50 * 2**20)

TARGETS: Final = (
    Target("h100-8b", LLAMA_8B, H100, gpus_per_instance=1, max_sequences=512),
    # The weights alone take 131 GiB: two H100 cannot hold them beside a KV cache worth having.
    Target("h100-70b", LLAMA_70B, H100, gpus_per_instance=4, max_sequences=256),
    Target("h200-8b", LLAMA_8B, H200, gpus_per_instance=1, max_sequences=512),
    Target("h200-70b", LLAMA_70B, H200, gpus_per_instance=2, max_sequences=256),
)
