"""Steps of an engine, put together from its kernels."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from e2e.profiles.kernel_tables import KernelTables
from e2e.profiles.targets import Target

OVERHEAD_MS: Final = 1.5
"""ASSUMED: what a step costs beside the kernels of the tables (scheduling, sampling, launches)."""
LONGEST_PROMPT: Final = 16384
"""Up to here prefill attention was measured."""


class Kind(StrEnum):
    """What a step consists of."""

    DECODE = "decode"
    """Decoding alone."""
    FULL = "fullChunk"
    """Decoding, and prompt tokens up to the chunk budget."""
    PART = "partChunk"
    """Decoding, and fewer prompt tokens than the budget takes."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step and its time."""

    kind: Kind
    sequences: int
    """B: sequences that decode."""
    kv_tokens: int
    """S: tokens that they hold."""
    prompt_tokens: int
    """P: prompt tokens computed."""
    prefix: int
    """Tokens of the prompt before those."""
    ms: float


def steps(target: Target, tables: KernelTables, kv_capacity: int) -> Iterator[Step]:
    """Every measured decode batch that fits, alone and beside prompts.

    Batches whose KV of one layer fits into the L2 cache are left out: the tables time one layer
    over and over, so they find it there, which an engine that goes through all layers never does.
    """
    shape, shared = target.shape, target.gpus_per_instance
    batches = [
        (sequences, length, shape.layers * ms)
        for sequences, length, ms in tables.decode_attention
        if sequences <= target.max_sequences
        and sequences * length <= kv_capacity
        and sequences * length * shape.layer_kv_bytes / shared >= target.gpu.l2_bytes
    ]
    for sequences, length, attention in batches:
        layers = _layers_ms(target, tables, sequences) + _head_ms(target, tables, sequences)
        ms = OVERHEAD_MS + layers + attention
        yield Step(Kind.DECODE, sequences, sequences * length, 0, 0, ms)
    for sequences, length, attention in [(0, 0, 0.0), *batches]:
        for kind, chunk, prefix in _chunks(target, sequences):
            ms = OVERHEAD_MS + attention + _chunk_ms(target, tables, sequences, chunk, prefix)
            yield Step(kind, sequences, sequences * length, chunk, prefix, ms)


def _chunks(target: Target, sequences: int) -> Iterator[tuple[Kind, int, int]]:
    """(kind, prompt tokens, tokens before them) of the chunks that may go with `sequences`."""
    budget = target.chunk_tokens
    rest = budget - sequences
    for prefix in (0, budget, 2 * budget, 4 * budget, 6 * budget):
        if prefix + rest <= LONGEST_PROMPT:
            yield Kind.FULL, rest, prefix
    for part in (budget // 8, budget // 4, budget // 2):
        if part < rest:
            yield Kind.PART, part, 0


def _chunk_ms(
    target: Target, tables: KernelTables, sequences: int, chunk: int, prefix: int
) -> float:
    """A step's time but for the decoding sequences' attention.

    The tables hold whole prompts only: what a chunk reads of its prefix and of itself is the
    difference of two of them.
    """
    curve = tables.prefill_attention
    attention = curve.at(prefix + chunk) - (curve.at(prefix) if prefix else 0.0)
    return (
        _layers_ms(target, tables, sequences + chunk)
        + _head_ms(target, tables, sequences + 1)
        + target.shape.layers * attention
    )


def _layers_ms(target: Target, tables: KernelTables, tokens: int) -> float:
    """Weight products of all layers, and what the GPUs exchange; `tokens` pass through."""
    shape, shared = target.shape, target.gpus_per_instance
    wide = (shape.heads + 2 * shape.kv_heads) * shape.head_size // shared
    layer = (
        tables.product_ms(tokens, wide, shape.hidden)
        + tables.product_ms(tokens, shape.hidden, shape.heads * shape.head_size // shared)
        + tables.product_ms(tokens, 2 * shape.feed_forward // shared, shape.hidden)
        + tables.product_ms(tokens, shape.hidden, shape.feed_forward // shared)
    )
    # After attention and after the feed-forward network of each layer, and after the embedding.
    exchanges = 2 * shape.layers + 1
    return shape.layers * layer + exchanges * tables.all_reduce_ms(tokens, shape)


def _head_ms(target: Target, tables: KernelTables, rows: int) -> float:
    """The output head, for the sequences that get a token."""
    shape = target.shape
    return tables.product_ms(rows, shape.vocabulary // target.gpus_per_instance, shape.hidden)
