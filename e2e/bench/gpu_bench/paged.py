"""Queries and a paged KV cache of a batch, as an engine holds them in a decode step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

PAGE_TOKENS: Final = 16


@dataclass(frozen=True, slots=True)
class Heads:
    """Shape of the attention. The default is that of Llama 3.1 8B."""

    query: int = 32
    kv: int = 8
    size: int = 128


@dataclass(frozen=True, slots=True)
class PagedBatch:
    """Everything a kernel reads.

    queries: [sequences, query heads, head size]; keys, values: [pages, PAGE_TOKENS, KV heads, head
    size]; pages: [sequences, most pages], int32; lengths: [sequences], int32.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    pages: torch.Tensor
    lengths: torch.Tensor
    longest: int


def paged_batch(
    lengths: Sequence[int], heads: Heads, device: str, dtype: torch.dtype, seed: int = 0
) -> PagedBatch:
    """Random contents; the pages of a sequence lie anywhere in the cache, as after long service."""
    chance = torch.Generator(device=device).manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, dtype=dtype, generator=chance)

    counts = [-(-length // PAGE_TOKENS) for length in lengths]
    order = torch.randperm(sum(counts), device=device, generator=chance).to(torch.int32)
    pages = torch.zeros(len(counts), max(counts), device=device, dtype=torch.int32)
    start = 0
    for place, count in enumerate(counts):
        pages[place, :count] = order[start : start + count]
        start += count
    cache = (sum(counts), PAGE_TOKENS, heads.kv, heads.size)
    return PagedBatch(
        queries=noise(len(lengths), heads.query, heads.size),
        keys=noise(*cache),
        values=noise(*cache),
        pages=pages,
        lengths=torch.tensor(lengths, device=device, dtype=torch.int32),
        longest=max(lengths),
    )


def of_sequence(batch: PagedBatch, place: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of one sequence: [tokens, KV heads, head size] each."""
    length = int(batch.lengths[place])
    pages = batch.pages[place, : -(-length // PAGE_TOKENS)].long()
    return (
        batch.keys[pages].flatten(0, 1)[:length],
        batch.values[pages].flatten(0, 1)[:length],
    )


def reference(batch: PagedBatch) -> torch.Tensor:
    """The attention in 32 bits, sequence by sequence: [sequences, query heads, head size]."""
    found = []
    for place in range(len(batch.lengths)):
        keys, values = (part.float() for part in of_sequence(batch, place))
        _, kv_heads, size = keys.shape
        queries = batch.queries[place].float().view(kv_heads, -1, size)
        scores = torch.einsum("hgd,thd->hgt", queries, keys) * size**-0.5
        weighted = torch.einsum("hgt,thd->hgd", torch.softmax(scores, dim=-1), values)
        found.append(weighted.reshape(-1, size))
    return torch.stack(found)
