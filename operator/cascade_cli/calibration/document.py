"""What a calibration comes to: a profile like those that come along, and a patch of a resource."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cascade_cli.calibration.fit import Fit, HeldOut, uncertain
from cascade_policy.engine_model import EngineModel

DIGITS: Final = 4
"""Significant digits of a coefficient: more than any measurement tells."""
ASSUMED_SEQUENCES: Final = 256
"""vLLM's own default of --max-num-seqs on many GPUs."""
ASSUMED_BLOCK: Final = 16
ASSUMED_KV_BYTES: Final = 131072
"""Of a token: an 8B model with grouped queries, bf16."""
_OF_RESOURCE: Final = (
    "baseMs",
    "perSequenceMs",
    "perKvTokenMs",
    "heterogeneity",
    "prefillMsPerToken",
    "prefillMsPerTokenSquared",
    "chunkTokens",
    "kvCapacityTokens",
    "maxSequences",
)
"""What spec.planning.costModel.coefficients of a CascadeService holds."""
_METHOD: Final = (
    "Batches of known lengths were decoded, and prompts computed beside one decoding sequence, on "
    "the live engine. Step times are medians over blocks of streamed tokens; a prefill is the time "
    "by which the decoding sequence was held up. Robust least squares of relative errors; "
    "intervals are of 95 %, by the spread of residuals (HC3); held-out errors are of batches and "
    "prompts that the fit had not seen."
)

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the engine is set to; None where neither it nor the user says."""

    chunk_tokens: int | None
    chunk_is_measured: bool
    longest_chunk: int
    """Longest prompt that was computed: chunks are as large where none was cut."""
    kv_tokens: int
    block_tokens: int | None
    sequences: int | None
    kv_bytes_per_token: int | None


@dataclass(frozen=True, slots=True)
class Identity:
    """What was measured, when, and as what."""

    name: str
    model: str
    gpu: str
    gpus_per_instance: int
    version: str
    date: str


def engine_of(fit: Fit, capacity: Capacity) -> EngineModel:
    """The engine model, coefficients rounded."""
    values = {name: _rounded(estimate.value) for name, estimate in fit.estimates.items()}
    return EngineModel.from_json(
        {
            **values,
            "chunkTokens": capacity.chunk_tokens or _power(capacity.longest_chunk),
            "kvCapacityTokens": capacity.kv_tokens,
            "maxSequences": capacity.sequences or ASSUMED_SEQUENCES,
            "blockTokens": capacity.block_tokens or ASSUMED_BLOCK,
            "kvBytesPerToken": capacity.kv_bytes_per_token or ASSUMED_KV_BYTES,
        }
    )


def profile_document(
    identity: Identity, fit: Fit, capacity: Capacity, notes: Sequence[str]
) -> JsonObject:
    """The profile, as `--cost-model` takes it."""
    version = f"version {identity.version}" if identity.version else "of unknown version"
    return {
        "profile": identity.name,
        "model": identity.model,
        "gpu": identity.gpu,
        "gpusPerInstance": identity.gpus_per_instance,
        "engine": f"OpenAI-compatible engine, {version}",
        "coefficients": engine_of(fit, capacity).to_json(),
        "intervals": {
            name: [_rounded(estimate.low), _bounded(estimate.high)]
            for name, estimate in fit.estimates.items()
        },
        "heldOutErrorPercent": {"decode": _errors(fit.decode), "prefill": _errors(fit.prefill)},
        "notMeasured": " ".join((*assumptions(capacity), *untold(fit))),
        "notes": list(notes),
        "method": _METHOD,
        "source": "Measured by cascade calibrate.",
        "date": identity.date,
    }


def resource_patch(engine: EngineModel) -> JsonObject:
    """A merge patch of a CascadeService that makes `engine` its cost model."""
    coefficients = engine.to_json()
    own = {name: coefficients[name] for name in _OF_RESOURCE}
    return {"spec": {"planning": {"costModel": {"profile": None, "coefficients": own}}}}


def assumptions(capacity: Capacity) -> list[str]:
    """What stands in the model without having been measured, a sentence each."""
    found = []
    if capacity.chunk_tokens is None:
        found.append(
            f"chunkTokens: no prompt was cut, so chunks of {_power(capacity.longest_chunk):,} "
            "tokens are ASSUMED; give --max-num-batched-tokens as the engine is set."
        )
    elif capacity.chunk_is_measured:
        found.append(
            "chunkTokens is read off the steps that prompts took; give --max-num-batched-tokens "
            "if you know it."
        )
    if capacity.sequences is None:
        found.append(
            f"maxSequences: {ASSUMED_SEQUENCES} is ASSUMED; give --max-num-seqs as the engine is "
            "set."
        )
    if capacity.kv_bytes_per_token is None:
        found.append(
            f"kvBytesPerToken: {ASSUMED_KV_BYTES:,} is ASSUMED; it matters only where KV caches "
            "are copied."
        )
    return found


def untold(fit: Fit) -> list[str]:
    """What the measurement leaves open, a sentence for all."""
    names = list(uncertain(fit.estimates))
    if not names:
        return []
    sentence = (
        f"Uncertain by more than half of themselves: {', '.join(names)}. Longer prompts "
        "(--max-tokens), larger batches (--max-batch) and more --repeats tell more."
    )
    return [sentence]


def _errors(held_out: HeldOut) -> Mapping[str, float]:
    return {
        "places": held_out.places,
        "median": round(100 * held_out.median, 2),
        "max": round(100 * held_out.greatest, 2),
    }


def _power(tokens: int) -> int:
    """The least power of two from `tokens` on."""
    return 1 << max(0, tokens - 1).bit_length()


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS - 1}e}")


def _bounded(high: float) -> float | None:
    """An end of an interval in JSON, which has no infinity."""
    return None if high == float("inf") else _rounded(high)
