"""The requests of an overload, and how many of them an engine could serve. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Final

ENGINE: Final[Mapping[str, float]] = {
    "kvCapacityTokens": 16000,
    "baseMs": 20.0,
    "perSequenceMs": 0.2,
    "perKvTokenMs": 0.0004,
    "prefillMsPerToken": 0.04,
}
"""An engine whose memory, not its batch size, is what runs out."""
SPREAD: Final = 0.8
"""Standard deviation of the logarithm of lengths."""


@dataclass(frozen=True)
class Shape:
    """What comes. Lengths in tokens, times in seconds."""

    factor: float = 2.0
    """Arrivals as a multiple of what the engines can serve."""
    seconds: float = 20.0
    """During which requests arrive."""
    instances: int = 2
    median_prompt: int = 300
    median_output: int = 120
    most: int = 6000
    seed: int = 1


@dataclass(frozen=True)
class Request:
    """One request: when it comes, its prompt, and how many tokens it asks for."""

    number: int
    at: float
    prompt: int
    output: int


def requests(shape: Shape) -> Sequence[Request]:
    """All of them, by arrival, as a Poisson process."""
    random = Random(shape.seed)
    lengths = [_lengths(random, shape) for _ in range(2000)]
    per_second = shape.factor * shape.instances * served_per_second(lengths)
    made: list[Request] = []
    now = random.expovariate(per_second)
    while now < shape.seconds:
        prompt, output = lengths[len(made) % len(lengths)]
        made.append(Request(len(made), now, prompt, output))
        now += random.expovariate(per_second)
    return made


def served_per_second(lengths: Sequence[tuple[int, int]]) -> float:
    """Requests per second of one engine with its memory always full of sequences that are half
    done: prefill and its share of each decode step, by the engine's own coefficients."""
    prompt, output = (fmean(one[side] for one in lengths) for side in (0, 1))
    held = fmean(one[0] + one[1] / 2 for one in lengths)
    batch = ENGINE["kvCapacityTokens"] / held
    step = ENGINE["baseMs"] + ENGINE["perSequenceMs"] * batch
    step += ENGINE["perKvTokenMs"] * ENGINE["kvCapacityTokens"]
    return 1000 / (prompt * ENGINE["prefillMsPerToken"] + output * step / batch)


def _lengths(random: Random, shape: Shape) -> tuple[int, int]:
    prompt = round(random.lognormvariate(0, SPREAD) * shape.median_prompt)
    output = round(random.lognormvariate(0, SPREAD) * shape.median_output)
    return min(shape.most, max(8, prompt)), min(shape.most, max(4, output))
