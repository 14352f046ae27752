"""Named engine models: the values of `spec.planning.costModel.profile`, each with its source."""

from typing import Final

from cascade_policy.engine_model import EngineModel

PROFILES: Final[dict[str, EngineModel]] = {
    # Llama-3.1-8B class, bf16, one H100 80 GB. Kernel timings of vLLM 0.24 from the tables of
    # aiconfigurator-core 0.12 (Apache-2.0), fitted by non-negative least squares; engine overhead
    # of 1.5 ms per step assumed; equal-length kernels, so no heterogeneity is known.
    "h100-8b": EngineModel(
        base_ms=7.9,
        per_sequence_ms=0.0083,
        per_kv_token_ms=4.0e-5,
        heterogeneity=0.0,
        prefill_ms_per_token=0.0158,
        prefill_ms_per_token_squared=8.9e-7,
        chunk_tokens=2048,
        kv_capacity_tokens=440_000,
        max_sequences=512,
    ),
    # The simulated engine: slow enough that a few requests a second fill eight of them on a
    # laptop, with a heterogeneity term so that mixing lengths is visible.
    "simulated": EngineModel(
        base_ms=16.0,
        per_sequence_ms=0.1,
        per_kv_token_ms=8.0e-4,
        heterogeneity=0.5,
        prefill_ms_per_token=0.15,
        prefill_ms_per_token_squared=4.0e-6,
        chunk_tokens=512,
        kv_capacity_tokens=120_000,
        max_sequences=64,
    ),
}


class UnknownProfile(ValueError):
    """No profile of that name; the message lists the known ones."""


def profile(name: str) -> EngineModel:
    """The engine model called `name`. Raises UnknownProfile."""
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(sorted(PROFILES))
        raise UnknownProfile(
            f"cost model profile {name!r} is not known; use one of {known}"
        ) from None
