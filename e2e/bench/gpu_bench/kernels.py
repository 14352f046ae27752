"""The kernels that are timed, each as a function that can be called again and again."""

from collections.abc import Callable
from typing import Final

import torch
from torch.nn.functional import scaled_dot_product_attention

from e2e.bench.gpu_bench.paged import PagedBatch, of_sequence

Call = Callable[[], torch.Tensor]
"""Computes [sequences, query heads, head size]."""
PART_TOKENS: Final = 512


def padded(batch: PagedBatch) -> Call:
    """PyTorch's own attention over keys padded to the longest sequence, as without paging."""
    sequences, query_heads, size = batch.queries.shape
    shape = (sequences, batch.keys.shape[2], batch.longest, size)
    keys = torch.zeros(shape, device=batch.keys.device, dtype=batch.keys.dtype)
    values = torch.zeros_like(keys)
    for place, length in enumerate(batch.lengths.tolist()):
        some_keys, some_values = of_sequence(batch, place)
        keys[place, :, :length] = some_keys.transpose(0, 1)
        values[place, :, :length] = some_values.transpose(0, 1)
    tokens = torch.arange(batch.longest, device=batch.keys.device)
    mask = (tokens[None, :] < batch.lengths[:, None])[:, None, None, :]
    # One query row for each query head of a KV head: keys are read once for all of them.
    queries = batch.queries.view(sequences, batch.keys.shape[2], -1, size)

    def call() -> torch.Tensor:
        found = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return found.reshape(sequences, query_heads, size)

    return call


def whole(batch: PagedBatch) -> Call:
    """Triton, a program for each sequence and KV head."""
    from e2e.bench.gpu_bench.triton_kernels import attend

    return lambda: attend(batch, None)


def parts(batch: PagedBatch) -> Call:
    """Triton, a program for each part of `PART_TOKENS` (flash-decoding)."""
    from e2e.bench.gpu_bench.triton_kernels import attend

    return lambda: attend(batch, PART_TOKENS)


KERNELS: Final[dict[str, Callable[[PagedBatch], Call]]] = {
    "torch, padded": padded,
    "triton, whole sequences": whole,
    "triton, parts": parts,
}
