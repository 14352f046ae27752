"""What a batch costs on the GPU: a roofline of LLaMA2-13B on one A100-80GB.

Data sheet: 2.039 TB/s, 312 TFLOP/s (bf16, dense), 80 GB. Model: 13.0e9 parameters in 26 GB, 40
layers, hidden size 5,120, no grouped queries, so 2 x 40 x 5,120 x 2 bytes = 0.82 MB of KV cache per
token. Assumed, because nothing public says it for these engines: 75 % of the bandwidth and half of
the arithmetic are reached, and 4 GB of memory go to activations and the CUDA context.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class BatchEngine:
    """Step-time coefficients. A step multiplies weights with its tokens, at least as long as it
    takes to read the weights or to launch the kernels, and reads the KV cache for attention."""

    name: str
    floor_ms: float
    """Least time of a step: the weights are read, the host launches the kernels."""
    gemm_ms_per_token: float
    """Time of the weight products per token once they are bound by arithmetic."""
    attention_ms_per_token_squared: float
    """Attention of a prompt to itself."""
    kv_ms_per_token: float
    """Attention of one new token to one cached token."""
    kv_capacity_tokens: int
    """Tokens that fit into the memory beside the weights, padding included."""

    def step_ms(self, tokens: float, kv_tokens: float, prompts_squared: float = 0.0) -> float:
        """Time of a step over `tokens` new tokens, among them prompts whose squared lengths add up
        to `prompts_squared`, that reads `kv_tokens` of KV cache."""
        return (
            max(self.floor_ms, self.gemm_ms_per_token * tokens)
            + self.kv_ms_per_token * kv_tokens
            + self.attention_ms_per_token_squared * prompts_squared
        )

    def prefill_ms(self, sequences: float, length: float) -> float:
        """Time to prefill `sequences` prompts that are padded to `length`."""
        return self.step_ms(sequences * length, 0.0, sequences * length * length)

    def decode_ms(self, sequences: float, length: float) -> float:
        """Time of one decode step over `sequences` that are padded to `length`."""
        return self.step_ms(sequences, sequences * length)

    def serve_ms(self, sequences: int, length: int, steps: int) -> float:
        """Time of a static batch: prefill, then a decode step at each of the padded lengths
        `length` + 1 ... `length` + `steps`."""
        mean_length = length + (steps + 1) / 2
        return self.prefill_ms(sequences, length) + steps * self.decode_ms(sequences, mean_length)


_BANDWIDTH: Final = 0.75 * 2.039e12 / 1e3
"""Bytes per ms."""
_ARITHMETIC: Final = 0.5 * 312e12 / 1e3
"""Operations per ms."""
_PARAMETERS: Final = 13.0e9
_WEIGHT_BYTES: Final = 26e9
_WIDTH: Final = 40 * 5120
"""Layers times hidden size."""
_KV_BYTES: Final = 2 * 2 * _WIDTH
_FREE_BYTES: Final = 80e9 - _WEIGHT_BYTES - 4e9

DEEPSPEED: Final = BatchEngine(
    name="deepspeed",
    # Fused kernels: reading the weights takes 17 ms, the host adds 2 ms.
    floor_ms=_WEIGHT_BYTES / _BANDWIDTH + 2.0,
    gemm_ms_per_token=2 * _PARAMETERS / _ARITHMETIC,
    # Two causal matrix products.
    attention_ms_per_token_squared=2 * _WIDTH / _ARITHMETIC,
    kv_ms_per_token=_KV_BYTES / _BANDWIDTH,
    kv_capacity_tokens=int(_FREE_BYTES / _KV_BYTES),
)
"""An engine with fused kernels and a KV cache that is allocated in advance; the iteration-level
engine is taken to be as fast, with ragged batches."""

TRANSFORMERS: Final = BatchEngine(
    name="transformers",
    # 40 layers launched one kernel after the other from Python; hides the weights.
    floor_ms=30.0,
    gemm_ms_per_token=2 * _PARAMETERS / _ARITHMETIC,
    # No use of causality, and scores of 40 x 40 heads are written and read (14 bytes in all).
    attention_ms_per_token_squared=4 * _WIDTH / _ARITHMETIC + 1600 * 14 / _BANDWIDTH,
    # The cache grows by concatenation: all of it is read, written, and read again.
    kv_ms_per_token=3 * _KV_BYTES / _BANDWIDTH,
    kv_capacity_tokens=int(_FREE_BYTES / _KV_BYTES),
)
"""An engine in eager Python with a KV cache that grows by concatenation."""
