"""The measured kernel times of one GPU under vLLM, read from the package aiconfigurator-core.

Times in ms of one call of a kernel. Between measured sizes they are interpolated linearly.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pyarrow import parquet

from e2e.profiles.targets import VALUE_BYTES, ModelShape, Target

PACKAGE: Final = "aiconfigurator-core"
ENGINE_VERSION: Final = "0.24.0"
"""Of vLLM, whose kernels the tables time."""
LARGEST_GRAPH_TOKENS: Final = 512
"""Steps of up to so many tokens run as a captured CUDA graph; longer ones launch each kernel."""

Array = NDArray[np.float64]
Filters = list[tuple[str, str, object]]


def package_version() -> str:
    """Of the installed kernel tables."""
    return metadata.version(PACKAGE)


@dataclass(frozen=True, eq=False, slots=True)
class Curve:
    """Time over one size, ascending."""

    sizes: Array
    ms: Array

    def at(self, size: float) -> float:
        """ms at `size`; a smaller or larger one than was measured takes the nearest time."""
        return float(np.interp(size, self.sizes, self.ms))


@dataclass(frozen=True, eq=False, slots=True)
class KernelTables:
    """All kernels of a dense model on one GPU of an instance."""

    products: Mapping[tuple[int, int], Curve]
    """Time over rows of a product with a weight matrix, by the matrix's outputs and inputs."""
    decode_attention: tuple[tuple[int, int, float], ...]
    """(sequences, length of each, ms) of one layer."""
    prefill_attention: Curve
    """Time over length of a prompt, one layer."""
    all_reduce_graph: Curve | None
    """Time over bytes; None on an instance of one GPU."""
    all_reduce_eager: Curve | None

    def product_ms(self, rows: int, outputs: int, inputs: int) -> float:
        """ms to multiply `rows` activations by a weight matrix."""
        widths = sorted({width for width, _ in self.products})
        parts = -(-outputs // widths[-1])
        return parts * sum(
            share * other * self.products[width, depth].at(rows)
            for width, share in _neighbours(widths, outputs / parts)
            for depth, other in _neighbours(widths, inputs)
        )

    def all_reduce_ms(self, tokens: int, shape: ModelShape) -> float:
        """ms to sum the activations of `tokens` over the GPUs of an instance."""
        graph = tokens <= LARGEST_GRAPH_TOKENS
        curve = self.all_reduce_graph if graph else self.all_reduce_eager
        return 0.0 if curve is None else curve.at(tokens * shape.hidden * VALUE_BYTES)


def read_tables(target: Target) -> KernelTables:
    """The tables of the target's GPU for its share of the model's heads."""
    system = target.gpu.system
    heads: Filters = [
        ("num_heads", "==", target.shape.heads // target.gpus_per_instance),
        ("num_key_value_heads", "==", target.shape.kv_heads // target.gpus_per_instance),
        ("head_dim", "==", target.shape.head_size),
        ("kv_cache_dtype", "==", "bfloat16"),
        ("window_size", "==", 0),
    ]
    decode = _rows(system, "attention", "generation_attention", heads)
    prefill = _rows(system, "attention", "context_attention", [*heads, ("batch_size", "==", 1)])
    return KernelTables(
        products=_products(system),
        decode_attention=tuple(
            sorted((row["batch_size"], row["isl"] + row["step"], row["latency"]) for row in decode)
        ),
        prefill_attention=_curve(prefill, lambda row: row["isl"]),
        all_reduce_graph=_all_reduce(target, "vllm_graph"),
        all_reduce_eager=_all_reduce(target, "vllm_eager"),
    )


def _products(system: str) -> dict[tuple[int, int], Curve]:
    by_matrix: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in _rows(system, "gemm", "gemm", [("gemm_dtype", "==", "bfloat16")]):
        by_matrix.setdefault((row["n"], row["k"]), []).append(row)
    return {matrix: _curve(rows, lambda row: row["m"]) for matrix, rows in by_matrix.items()}


def _all_reduce(target: Target, backend: str) -> Curve | None:
    if target.gpus_per_instance == 1:
        return None
    wanted: Filters = [("num_gpus", "==", target.gpus_per_instance), ("backend", "==", backend)]
    rows = _rows(target.gpu.system, "comm", "custom_allreduce", wanted)
    return _curve(rows, lambda row: row["message_size"])


def _curve(rows: list[dict[str, Any]], size: Callable[[dict[str, Any]], int]) -> Curve:
    points = sorted((size(row), row["latency"]) for row in rows)
    return Curve(
        np.array([at for at, _ in points], dtype=np.float64),
        np.array([ms for _, ms in points], dtype=np.float64),
    )


def _rows(system: str, family: str, table: str, filters: Filters) -> list[dict[str, Any]]:
    folder = resources.files("aiconfigurator_core") / "systems" / "data" / system / family
    file = folder / "vllm" / ENGINE_VERSION / f"{table}_perf.parquet"
    with resources.as_file(file) as path:
        rows: list[dict[str, Any]] = parquet.read_table(path, filters=filters).to_pylist()
    return rows


def _neighbours(sizes: list[int], wanted: float) -> list[tuple[int, float]]:
    """The measured sizes around `wanted` with their shares in it."""
    above = next(index for index, size in enumerate(sizes) if size >= wanted)
    if sizes[above] == wanted:
        return [(sizes[above], 1.0)]
    low, high = sizes[above - 1], sizes[above]
    share = (wanted - low) / (high - low)
    return [(low, 1 - share), (high, share)]
