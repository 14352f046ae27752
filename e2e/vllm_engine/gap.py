"""The gap that a hand-over makes between two tokens, warm and by recomputing, in usual gaps."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from statistics import median
from typing import Any, Final

from cascade_policy.stage_map import RECOMPUTE, WARM, Boundaries, Handoff, StageMap
from e2e.continuity_suite.answer import read_stream
from e2e.continuity_suite.cases import COMPLETIONS
from e2e.continuity_suite.differences import first_difference
from e2e.continuity_suite.wire import Client, Received
from e2e.vllm_engine.service import MAX_LENGTH, MODEL, SLICE_TOKENS, STAGES, Real

LENGTHS: Final = (1000, 4000, 8000)
"""Of prompts, in tokens."""
BEFORE: Final = 40
"""Tokens that are generated before the stage ends."""
OUTPUT: Final = 160
TRANSPORTS: Final = (RECOMPUTE, WARM)
IDS: Final = range(10, 500)
"""Of the tiny model's vocabulary."""
_TRIES: Final = 4
_TRACED: Final = {"x-cascade-trace": "1"}
_TRACE: Final = b": cascade handover"


@dataclass
class Gaps:
    """Of the streams of one length and transport; each gap in the usual gaps of its stream."""

    length: int
    transport: str
    ratios: list[float] = field(default_factory=list)
    streams: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def typical(self) -> float | None:
        """The median; None where nothing was handed over."""
        return median(self.ratios) if self.ratios else None


@dataclass
class _Clock:
    """Sees when the tokens of a stream come."""

    at_handover: list[float] = field(default_factory=list)
    _read: int = 0
    _first: float | None = None
    _last: float | None = None
    _handed_over: bool = False

    def usual(self, tokens: int) -> float:
        """Seconds for each of so many tokens, hand-overs left out. Tokens can share an event, and
        events a read, so single gaps say little."""
        if self._first is None or self._last is None:
            return 0.0
        return (self._last - self._first - sum(self.at_handover)) / tokens

    def __call__(self, received: Received) -> None:
        now, body = asyncio.get_running_loop().time(), received.body
        end = body.rfind(b"\n\n") + 2
        if end <= self._read:
            return
        for event in body[self._read : end].split(b"\n\n"):
            if event.startswith(_TRACE):
                self._handed_over = True
            elif event.startswith(b'data: {"') and b'"choices":[{' in event:
                self._token(now)
        self._read = end

    def _token(self, now: float) -> None:
        if self._last is None:
            self._first = now
        elif self._handed_over:
            self.at_handover.append(now - self._last)
        self._last, self._handed_over = now, False


async def measure(real: Real, times: int) -> Sequence[Gaps]:
    """All lengths and transports, in turn, so that a busy hour of the machine meets all alike."""
    found = {
        (length, transport): Gaps(length, transport)
        for length in LENGTHS
        for transport in TRANSPORTS
    }
    for turn in range(times):
        for (length, transport), gaps in found.items():
            _plan(real, length, transport)
            await _until_handed_over(real, gaps, Random(f"gap/{length}/{transport}/{turn}"))
    return list(found.values())


def _plan(real: Real, length: int, transport: str) -> None:
    """One stage ends shortly after the prompt, and no other one does."""

    def use(stage_map: StageMap) -> StageMap:
        handoff = Handoff(transport=transport, slice_tokens=SLICE_TOKENS)
        return replace(stage_map, boundaries=Boundaries.HARD, handoff=handoff)

    ends = [length + BEFORE, *(MAX_LENGTH - left for left in range(STAGES - 2, 0, -1))]
    real.service.replan(replace(real.service.plan, ends=ends, stage_map=use))


async def _until_handed_over(real: Real, gaps: Gaps, random: Random) -> None:
    """Streams until one is handed over: the first may come before the routers have seen the plan,
    and a busy machine may finish one before its target is ready."""
    measured = len(gaps.ratios)
    for _ in range(_TRIES):
        await _one(real, gaps, random)
        if len(gaps.ratios) > measured:
            break


async def _one(real: Real, gaps: Gaps, random: Random) -> None:
    body: dict[str, Any] = {
        "model": MODEL, "prompt": random.choices(IDS, k=gaps.length), "max_tokens": OUTPUT,
        "temperature": 0, "ignore_eos": True, "stream": True, "return_token_ids": True,
    }  # fmt: skip
    clock = _Clock()
    got = await Client(real.router.url, _TRACED).post(COMPLETIONS, body, watch=clock)
    expected = await real.reference.post(COMPLETIONS, json.dumps(body).encode())
    gaps.streams += 1
    difference = first_difference(read_stream(expected), read_stream(got))
    if difference is not None:
        gaps.differences.append(difference)
    usual = clock.usual(OUTPUT)
    if usual:
        gaps.ratios += [gap / usual for gap in clock.at_handover]
