"""What is asked of an engine, and in which order: the grid of a calibration.

Batches are climbed as ladders: sequences are added and stay, so that their prompts are computed
once and serve all higher rungs. Three ladders tell the coefficients of a decode step apart:

- *batch*: short sequences, 1, 2, 4, ... of them: C0 and C1;
- *length*: long sequences, 1, 2, 4, 8: C2; then short ones beside them, so that lengths become
  uneven while the KV cache stays: the heterogeneity;
- *mix*: short sequences, then longer ones among them: the same from the other end.

Probes are prompts of 1/8, 1/4, 1/2 and 1 of the greatest length beside one decoding sequence: CP
and CQ. Each is sent twice, as one stall of a host would spoil what a single prompt tells. The
greatest length and the KV tokens are what budget and engine allow.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

SHORT: Final = 32
"""Tokens of a short prompt."""
LONG_ONES: Final = 8
"""Long sequences of a ladder."""
STEPS: Final = 64
"""Decode steps of a rung, if there is time."""
LEAST_STEPS: Final = 32
PROBE_STEPS: Final = 24
"""Steps of the clock between two probes."""
LEAST_LONG: Final = 4 * SHORT
"""Tokens of a long sequence below which lengths cannot be told from numbers."""
LEAST_LENGTH: Final = 1024
"""Tokens that a sequence of the engine must be able to have."""
KV_SHARE: Final = 0.75
"""Of the KV cache that is filled at most: nothing may be preempted."""
_PROBES: Final = (0.125, 0.25, 0.5, 1.0)
_PROBE_TIMES: Final = 2
_PROBE_LENGTH: Final = 3
"""The longest probe over the long sequences of a ladder: probes are half of all prompt tokens."""
_DECODE_SHARE: Final = 0.5
"""Of the time, for decoding at most, if there is a choice: short prompts tell little."""
_BETWEEN: Final = 32
"""Steps that go by until a further rung is asked for."""
_SLOWER: Final = 3.0
"""Steps of large batches over those of one sequence, as a guess beforehand."""
_PREFILL_MARGIN: Final = 1.3
"""For what a prompt takes beyond its first tokens' price."""
_CHUNK: Final = 256
"""Prompt tokens of a step, as a careful guess: decoding sequences get a token in each."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the engine takes. Tokens."""

    max_length: int
    """Of a sequence, prompt and answer."""
    kv_tokens: int | None
    """Of its KV cache; None if it does not tell."""
    sequences: int
    """That may run at once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the engine is, roughly."""

    step_ms: float
    """Of a decode step with one short sequence."""
    prefill_ms_per_token: float


@dataclass(frozen=True, slots=True)
class Budget:
    """What the user grants."""

    seconds: float
    prompt_tokens: int
    repeats: int = 2


@dataclass(frozen=True, slots=True)
class Ladder:
    """Batches that grow: prompt lengths that each rung adds."""

    name: str
    rungs: tuple[tuple[int, ...], ...]

    @property
    def prompts(self) -> tuple[int, ...]:
        """Lengths of all prompts."""
        return tuple(length for rung in self.rungs for length in rung)


@dataclass(frozen=True, slots=True)
class Design:
    """All that is sent: probes, then the ladders; `repeats` times."""

    probes: tuple[int, ...]
    """Prompt lengths in the order in which they are sent."""
    ladders: tuple[Ladder, ...]
    steps: int
    """Decode steps of a rung."""
    repeats: int

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts."""
        ladders = sum(sum(ladder.prompts) for ladder in self.ladders)
        return self.repeats * (SHORT + sum(self.probes) + ladders)

    @property
    def prompts(self) -> int:
        """How many are sent."""
        ladders = sum(len(ladder.prompts) for ladder in self.ladders)
        return self.repeats * (1 + len(self.probes) + ladders)

    @property
    def sequences(self) -> int:
        """Most that run at once."""
        return max(2, *(len(ladder.prompts) for ladder in self.ladders))

    def answer_tokens(self, ladder: Ladder) -> int:
        """Most that a sequence of `ladder` generates until all rungs have been climbed."""
        prefill = math.ceil(sum(ladder.prompts) / _CHUNK)
        return len(ladder.rungs) * (self.steps + _BETWEEN) + prefill

    def kv_tokens(self, ladder: Ladder) -> int:
        """Most that the sequences of `ladder` hold together."""
        return sum(ladder.prompts) + len(ladder.prompts) * self.answer_tokens(ladder)

    def decode_seconds(self, pace: Pace) -> float:
        """How long decoding takes, about."""
        rungs = sum(len(ladder.rungs) for ladder in self.ladders) * self.steps * _SLOWER
        clocks = (len(self.probes) + 1) * PROBE_STEPS
        return self.repeats * (rungs + clocks) * pace.step_ms / 1000

    def seconds(self, pace: Pace) -> float:
        """How long all of it takes, about."""
        prefill = _PREFILL_MARGIN * self.prompt_tokens * pace.prefill_ms_per_token
        return self.decode_seconds(pace) + prefill / 1000


class TooSmall(ValueError):
    """Engine or budget leave no room for a grid; the message says what to do."""


def design(limits: Limits, pace: Pace, budget: Budget) -> Design:
    """The largest grid that engine and budget allow. Raises TooSmall.

    Time that is short is saved by fewer steps per rung first, then by fewer repetitions, so that
    half of it is left for prompts; what is left decides how long these are.
    """
    if limits.max_length < LEAST_LENGTH:
        raise TooSmall(
            f"sequences of {limits.max_length:,} tokens are too short to tell what lengths cost: "
            f"the engine must take at least {LEAST_LENGTH:,} (vLLM's --max-model-len)"
        )
    if limits.sequences < 2 * LONG_ONES:
        raise TooSmall(
            f"batches of {limits.sequences} are too small to tell what sequences cost: allow at "
            f"least {2 * LONG_ONES} (--max-batch here, --max-num-seqs of the engine)"
        )
    for share in (_DECODE_SHARE, 1.0):
        for repeats in range(budget.repeats, 0, -1):
            for steps in (STEPS, 48, LEAST_STEPS):
                found = _filled(limits, pace, replace(budget, repeats=repeats), steps)
                if found and found.decode_seconds(pace) <= share * budget.seconds:
                    return found
    raise TooSmall(
        f"{budget.seconds:g} s and {budget.prompt_tokens:,} prompt tokens are too little at "
        f"{pace.step_ms:.3g} ms a step and {pace.prefill_ms_per_token:.3g} ms a prompt token, or "
        "the KV cache or the context is too small: give more --max-seconds or --max-tokens, or a "
        "smaller --max-batch"
    )


def _filled(limits: Limits, pace: Pace, budget: Budget, steps: int) -> Design | None:
    """The grid of so many steps, its prompts as long as the rest of the budget allows."""
    bare = _grid(limits, LEAST_LONG, budget.repeats, steps)
    if not _fits(bare, limits, pace, budget):
        return None
    low, high = LEAST_LONG, limits.max_length
    while high - low > 1:
        middle = (low + high) // 2
        fits = _fits(_grid(limits, middle, budget.repeats, steps), limits, pace, budget)
        low, high = (middle, high) if fits else (low, middle)
    return _grid(limits, low, budget.repeats, steps)


def _fits(found: Design, limits: Limits, pace: Pace, budget: Budget) -> bool:
    longest = all(
        max(ladder.prompts) + found.answer_tokens(ladder) <= limits.max_length
        for ladder in found.ladders
    )
    kv_tokens = max(*found.probes, *(found.kv_tokens(ladder) for ladder in found.ladders))
    return (
        longest
        and (limits.kv_tokens is None or kv_tokens <= KV_SHARE * limits.kv_tokens)
        and found.prompt_tokens <= budget.prompt_tokens
        and found.seconds(pace) <= budget.seconds
    )


def _grid(limits: Limits, long: int, repeats: int, steps: int) -> Design:
    """The grid whose long sequences have prompts of `long` tokens."""
    doubles = [2**power for power in range(1 + int(math.log2(limits.sequences)))]
    longs = _added([1, 2, 4, LONG_ONES], long)
    beside = min(3 * LONG_ONES, limits.sequences - LONG_ONES)
    shorts = _added(sorted({LONG_ONES // 4, 3 * LONG_ONES // 4, beside}), SHORT)
    ladders = (
        Ladder("batch", _added(sorted({*doubles, limits.sequences}), SHORT)),
        Ladder("length", longs + shorts),
        Ladder("mix", ((SHORT,) * LONG_ONES, *_added([1, 2, 4, LONG_ONES], long // 2))),
    )
    top = min(_PROBE_LENGTH * long, limits.max_length - SHORT)
    probes = tuple(round(top * part) for part in _PROBES) * _PROBE_TIMES
    return Design(probes, ladders, steps, repeats)


def _added(totals: list[int], length: int) -> tuple[tuple[int, ...], ...]:
    """Rungs that add prompts of `length` until there are as many as each of `totals`."""
    return tuple((length,) * (after - before) for before, after in pairwise([0, *totals]))
