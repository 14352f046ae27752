"""The profile file: coefficients, and where each of them comes from."""

import json
from typing import Final

from cascade_policy.engine_model import EngineModel
from e2e.profiles.fit import Errors
from e2e.profiles.kernel_tables import ENGINE_VERSION, PACKAGE
from e2e.profiles.memory import ENGINE_SHARE, KvMemory
from e2e.profiles.steps import OVERHEAD_MS, Kind
from e2e.profiles.targets import Target

DERIVED_ON: Final = "2026-11-21"
"""When this derivation last changed what it gives."""

METHOD: Final = (
    "Kernel times (weight products, attention, exchange between GPUs) of one layer, times the "
    "layers, plus output head and overhead, make the time of a step; non-negative least squares "
    "of the relative errors over decode steps and full chunks, which weigh the same. Decode "
    "batches whose KV cache of one layer fits into the L2 cache are left out."
)
NOT_MEASURED: Final = (
    "Uneven lengths: kernels were timed with equal lengths, so heterogeneity is 0 until it is "
    "measured. Element-wise kernels (norms, rotary embedding, activation) are not in the tables. "
    "Kernels were timed alone; an engine under load may clock lower."
)


def write_profile(
    target: Target, version: str, model: EngineModel, errors: dict[Kind, Errors], memory: KvMemory
) -> str:
    """The text of the target's profile file; `version` is that of the kernel tables."""
    document = {
        "profile": target.profile,
        "model": target.shape.name,
        "gpu": target.gpu.name,
        "gpusPerInstance": target.gpus_per_instance,
        "engine": f"vLLM {ENGINE_VERSION}",
        "engineArguments": _engine_arguments(target),
        "coefficients": model.to_json(),
        "fitErrorPercent": {kind: _percent(error) for kind, error in errors.items()},
        "kvCapacity": {
            "gpuMemoryGiB": memory.gpu_gib,
            "engineShare": ENGINE_SHARE,
            "weightsGiBPerGpu": memory.weights_gib,
            "reserveGiBPerGpu": memory.reserve_gib,
            "note": "(memory x share - weights - reserve) x GPUs / kvBytesPerToken, rounded down; "
            "the reserve for activations, CUDA graphs and buffers is ASSUMED.",
        },
        "overhead": {
            "msPerStep": OVERHEAD_MS,
            "note": "ASSUMED, not measured: scheduling, sampling and launches; part of baseMs.",
        },
        "notMeasured": NOT_MEASURED,
        "method": METHOD,
        "source": f"Measured kernel tables of {PACKAGE} {version} (Apache-2.0) for "
        f"{target.gpu.system} under vLLM {ENGINE_VERSION}, read by python -m e2e.profiles.",
        "date": DERIVED_ON,
    }
    return json.dumps(document, indent=2) + "\n"


def _engine_arguments(target: Target) -> dict[str, object]:
    return {
        "values": [
            f"--tensor-parallel-size={target.gpus_per_instance}",
            f"--max-num-batched-tokens={target.chunk_tokens}",
            f"--max-num-seqs={target.max_sequences}",
        ],
        "note": "What the coefficients assume. vLLM's API server sets 8192 and 1024 by itself on "
        "GPUs of 70 GiB and more: give these arguments to the engine, or coefficients that fit.",
    }


def _percent(errors: Errors) -> dict[str, float]:
    return {
        "steps": errors.steps,
        "median": round(100 * errors.median, 1),
        "max": round(100 * errors.largest, 1),
    }
