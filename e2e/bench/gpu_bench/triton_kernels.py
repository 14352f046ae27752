"""Decode attention over a paged KV cache in Triton: whole sequences, or parts of equal size.

The two ways in which engines give the work to a GPU. A program for each sequence and KV head is as
late as its longest sequence; parts (flash-decoding) are of equal size, and are put together
afterwards by their softmax sums.
"""

import torch
import triton
import triton.language as tl

from e2e.bench.gpu_bench.paged import PAGE_TOKENS, PagedBatch

TILE_TOKENS = 64
LEAST_ROWS = 16
"""Of a matrix product."""


@triton.jit
def _attend(
    queries, keys, values, pages, lengths, sums, peaks, partial,
    scale, most_pages, parts, part_tokens,
    group: tl.constexpr, most_rows: tl.constexpr, kv_heads: tl.constexpr, size: tl.constexpr,
    page_tokens: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    sequence, head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(lengths + sequence)
    first = part * part_tokens
    if first >= length:
        return
    last = tl.minimum(first + part_tokens, length)
    rows, columns = tl.arange(0, most_rows), tl.arange(0, size)
    query_head = head * group + rows
    is_row = rows < group
    place = (sequence * kv_heads * group + query_head)[:, None] * size + columns[None, :]
    q = tl.load(queries + place, mask=is_row[:, None], other=0.0)
    peak = tl.full([most_rows], float("-inf"), tl.float32)
    total = tl.zeros([most_rows], tl.float32)
    out = tl.zeros([most_rows, size], tl.float32)
    for start in range(first, last, tile):
        tokens = start + tl.arange(0, tile)
        is_token = tokens < last
        page = tl.load(
            pages + sequence * most_pages + tokens // page_tokens, mask=is_token, other=0
        )
        slot = (page.to(tl.int64) * page_tokens + tokens % page_tokens) * kv_heads + head
        where = slot[:, None] * size + columns[None, :]
        k = tl.load(keys + where, mask=is_token[:, None], other=0.0)
        v = tl.load(values + where, mask=is_token[:, None], other=0.0)
        scores = tl.dot(q, tl.trans(k)).to(tl.float32) * scale
        scores = tl.where(is_token[None, :], scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, axis=1))
        weights = tl.exp(scores - higher[:, None])
        fade = tl.exp(peak - higher)
        total = total * fade + tl.sum(weights, axis=1)
        out = out * fade[:, None] + tl.dot(weights.to(v.dtype), v).to(tl.float32)
        peak = higher
    of_part = (sequence * kv_heads * group + query_head) * parts + part
    tl.store(peaks + of_part, peak, mask=is_row)
    tl.store(sums + of_part, total, mask=is_row)
    tl.store(partial + of_part[:, None] * size + columns[None, :], out, mask=is_row[:, None])


@triton.jit
def _combine(
    lengths, sums, peaks, partial, found, parts, part_tokens,
    query_heads: tl.constexpr, size: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    length = tl.load(lengths + row // query_heads)
    columns = tl.arange(0, size)
    peak = tl.full([1], float("-inf"), tl.float32)
    total = tl.zeros([1], tl.float32)
    out = tl.zeros([size], tl.float32)
    for part in range(tl.cdiv(length, part_tokens)):
        of_part = row * parts + part
        higher = tl.maximum(peak, tl.load(peaks + of_part))
        fade, weight = tl.exp(peak - higher), tl.exp(tl.load(peaks + of_part) - higher)
        total = total * fade + tl.load(sums + of_part) * weight
        out = out * fade + tl.load(partial + of_part * size + columns) * weight
        peak = higher
    tl.store(found + row * size + columns, (out / total).to(found.dtype.element_ty))


def attend(batch: PagedBatch, part_tokens: int | None) -> torch.Tensor:
    """[sequences, query heads, head size]; None takes sequences whole."""
    sequences, query_heads, size = batch.queries.shape
    kv_heads = batch.keys.shape[2]
    each = part_tokens or batch.longest
    parts = -(-batch.longest // each)
    room = {"device": batch.queries.device, "dtype": torch.float32}
    sums = torch.empty(sequences, query_heads, parts, **room)
    peaks = torch.empty(sequences, query_heads, parts, **room)
    partial = torch.empty(sequences, query_heads, parts, size, **room)
    group = query_heads // kv_heads
    _attend[(sequences, kv_heads, parts)](
        batch.queries, batch.keys, batch.values, batch.pages, batch.lengths, sums, peaks, partial,
        size**-0.5, batch.pages.shape[1], parts, each,
        group=group, most_rows=max(LEAST_ROWS, triton.next_power_of_2(group)), kv_heads=kv_heads,
        size=size, page_tokens=PAGE_TOKENS, tile=TILE_TOKENS,
    )  # fmt: skip
    found = torch.empty_like(batch.queries)
    _combine[(sequences * query_heads,)](
        batch.lengths, sums, peaks, partial, found, parts, each,
        query_heads=query_heads, size=size,
    )  # fmt: skip
    return found
