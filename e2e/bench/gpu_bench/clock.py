"""Times of a call on a device."""

import time
from collections.abc import Callable
from typing import Final

import torch

WARM_UPS: Final = 5
FLUSH_BYTES: Final = 256 << 20
"""More than any cache of a GPU: in a step other layers' keys lie between two reads of the same."""


def times_ms(call: Callable[[], object], device: str, times: int) -> list[float]:
    """Milliseconds of each of `times` calls, nothing in the caches before it."""
    for _ in range(WARM_UPS):
        call()
    if device == "cpu":
        return [_on_cpu(call) for _ in range(times)]
    dirt = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)
    spans = []
    for _ in range(times):
        dirt.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        spans.append((begin, end))
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) for begin, end in spans]


def _on_cpu(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - begin)
