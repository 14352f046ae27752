"""`e2e/bench/gpu`: times kernels on even and uneven batches, and says what unevenness costs."""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from e2e.bench.gpu_bench.lengths import Batch, batches
from e2e.bench.gpu_bench.penalty import Timing
from e2e.bench.gpu_bench.report import Report

TIMES: Final = 50
SMOKE_TIMES: Final = 2
SMOKE_SIZES: Final = ((4,), (48,))
MOST_OFF: Final = 0.02
"""Greatest difference to the attention in 32 bits; values are about 1, in bfloat16."""


class WrongKernel(Exception):
    """A kernel computes something else than attention; the message says by how much."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Time everything; status 1 where a kernel is wrong."""
    options = _options(arguments)
    device = _device()
    try:
        report = _measured(device, TIMES if device != "cpu" else SMOKE_TIMES)
    except WrongKernel as error:
        print(f"e2e/bench/gpu: {error}", file=sys.stderr)
        return 1
    print(report.text())
    if options.json:
        document = json.dumps(asdict(report), indent=1)
        options.json.write_text(document + "\n", encoding="utf-8")
    if options.results:
        options.results.write_text(report.page(), encoding="utf-8")
    return 0


def _device() -> str:
    """`cuda` where there is a GPU; else `cpu`, on which Triton's kernels are interpreted."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    # Read when Triton is imported.
    os.environ["TRITON_INTERPRET"] = "1"
    return "cpu"


def _measured(device: str, times: int) -> Report:
    import torch

    sizes = SMOKE_SIZES if device == "cpu" else ()
    timings = [
        timing
        for group in batches(*sizes)
        for batch in group
        for timing in _timed(batch, device, times)
    ]
    name = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    return Report(name, torch.__version__, device == "cuda", timings)


def _timed(batch: Batch, device: str, times: int) -> Iterator[Timing]:
    """Each kernel on one batch. Raises WrongKernel."""
    import torch

    from e2e.bench.gpu_bench.clock import times_ms
    from e2e.bench.gpu_bench.kernels import KERNELS
    from e2e.bench.gpu_bench.paged import Heads, paged_batch, reference

    is_real = device == "cuda"
    heads = Heads() if is_real else Heads(query=4, kv=2, size=32)
    dtype = torch.bfloat16 if is_real else torch.float32
    held = paged_batch(batch.lengths, heads, device, dtype)
    wanted = reference(held)
    for kernel, prepared in KERNELS.items():
        call = prepared(held)
        off = float((call().float() - wanted).abs().max())
        if not off <= MOST_OFF:
            raise WrongKernel(f"{kernel} is off by {off:.3g} on {batch.name}")
        low, middle, high = statistics.quantiles(times_ms(call, device, times), n=4)
        cv = batch.cv
        yield Timing(kernel, batch.name, len(batch.lengths), batch.total, cv, middle, low, high)
        if is_real:
            print(f"{len(batch.lengths):4} x {batch.total // len(batch.lengths):5}, "
                  f"{batch.name:8} {kernel:24} {middle:8.3f} ms", file=sys.stderr)  # fmt: skip


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="e2e/bench/gpu",
        description="What uneven lengths cost the attention of a decode step: the same tokens in "
        "sequences alike and unlike, by kernel. Without a GPU it measures nothing: then it is a "
        "smoke test.",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times there")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write the page there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
