"""What a plan rests on, said aloud."""

from collections.abc import Iterator

from cascade_cli.answer import Answer


def assumptions(answer: Answer) -> Iterator[str]:
    """A sentence each, the most telling first."""
    objective, engine = answer.objective, answer.pool.engine
    yield (
        f"Cost is the mean number of requests in the system, with time to first token weighted "
        f"{objective.alpha:g}-fold, at {objective.safety:g} times the rates; time beyond "
        f"{objective.ttft_target_ms:g} ms to the first token or {objective.tpot_target_ms:g} ms "
        f"per output token counts {1 + objective.slo_weight:g}-fold."
    )
    yield (
        f"A step takes {engine.base_ms:g} ms, {engine.per_sequence_ms:g} ms for each sequence and "
        f"{1000 * engine.per_kv_token_ms:g} µs for each KV token; prefill takes "
        f"{engine.prefill_ms_per_token:g} ms for each token at first and "
        f"{1e6 * engine.prefill_ms_per_token_squared:g} ns more for each token before it, in "
        f"chunks of {engine.chunk_tokens}."
    )
    if engine.heterogeneity == 0:
        yield (
            "Uneven lengths in a batch cost nothing extra, as nobody has measured it for this "
            "engine; if they do, stages gain more."
        )
    else:
        yield (
            f"Uneven lengths in a batch slow attention by {100 * engine.heterogeneity:g} % for "
            "each unit of their coefficient of variation, at most by half."
        )
    crossing = answer.options.crossing
    yield (
        "A sequence that outgrows its stage is computed anew in the next."
        if crossing.copy_bytes_per_ms is None
        else "A sequence that outgrows its stage has its KV cache copied at "
        f"{crossing.copy_bytes_per_ms / 1e6:g} GB/s."
    )
    yield (
        "A stage is one queue before all its instances. Dispatch without that queue makes the time "
        "to first token longer: by 5 to 12 % on one instance, 13 to 46 % on four, simulated; times "
        "per output token and end-to-end come out within 7 %."
    )
    yield "Traffic stays as it was seen; every prompt is computed whole."
