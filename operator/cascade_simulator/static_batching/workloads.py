"""Requests for this world: Poisson arrivals, lengths from a distribution or from a trace."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cascade_simulator.workload import Request, Workload

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LengthDistribution:
    """Independent lognormal lengths of prompts and answers, cut off at limits, in tokens."""

    prompt_median: float
    prompt_sigma: float
    prompt_limit: int
    output_median: float
    output_sigma: float
    output_limit: int

    def draw(self, requests: int, random: np.random.Generator) -> tuple[Ints, Ints]:
        """Prompt and output lengths, each of shape (requests,)."""
        prompts = self.prompt_median * np.exp(self.prompt_sigma * random.standard_normal(requests))
        outputs = self.output_median * np.exp(self.output_sigma * random.standard_normal(requests))
        return _limited(prompts, self.prompt_limit), _limited(outputs, self.output_limit)


CODE_ASSISTANT: Final = LengthDistribution(
    prompt_median=250,
    prompt_sigma=1.0,
    prompt_limit=1024,
    output_median=130,
    output_sigma=1.0,
    output_limit=1024,
)
"""Stands in for a code assistant's requests: means of about 350 and 205 tokens; nine answers in ten
end before half of the limit. The production trace of arXiv 2406.13511 is not public."""


def drawn(
    name: str,
    lengths: LengthDistribution,
    requests: int,
    per_second: float,
    random: np.random.Generator,
) -> Workload:
    """`requests` requests with drawn lengths, `per_second` of them on average."""
    prompts, outputs = lengths.draw(requests, random)
    return _arriving(name, prompts, outputs, per_second, random)


def sampled(
    name: str,
    lengths: Sequence[tuple[int, int]],
    limits: tuple[int, int],
    requests: int,
    per_second: float,
    random: np.random.Generator,
) -> Workload:
    """`requests` requests with (prompt, output) pairs sampled from a trace's `lengths`, cut off at
    `limits`, `per_second` of them on average."""
    picked = np.asarray(lengths)[random.integers(len(lengths), size=requests)]
    prompts, outputs = _limited(picked[:, 0], limits[0]), _limited(picked[:, 1], limits[1])
    return _arriving(name, prompts, outputs, per_second, random)


def _limited(lengths: NDArray[np.float64] | Ints, limit: int) -> Ints:
    return np.clip(np.rint(lengths), 1, limit).astype(np.int64)


def _arriving(
    name: str, prompts: Ints, outputs: Ints, per_second: float, random: np.random.Generator
) -> Workload:
    arrivals = np.cumsum(random.exponential(1e3 / per_second, size=len(prompts)))
    rows = zip(arrivals.tolist(), prompts.tolist(), outputs.tolist(), strict=True)
    return Workload(name, tuple(Request(*row) for row in rows))
