"""Drives an engine through a design and brings home what was seen."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from cascade_cli.calibration.design import PROBE_STEPS, SHORT, Design, Ladder, Pace
from cascade_cli.calibration.engine import AnswerOver, Engine, LiveStream, Streams
from cascade_cli.calibration.engine_page import EngineState
from cascade_cli.calibration.prefill_work import clock_step_ms, prefill_work
from cascade_cli.calibration.records import Probe, Rung
from cascade_cli.errors import EngineBusy, NoModel, Unreachable

MOST_WATCHED: Final = 4
"""Streams of a batch that are read to their end: one tells the steps of all, a few tell that they
are those of all, and this machine must not become the bottleneck."""
WARM_UP_TOKENS: Final = 256
WARM_UPS: Final = 3
"""Prompts before anything counts: engines compile and capture on the first ones."""
LEAST_PACE_MS: Final = 1e-4
"""Per prompt token; faster than any engine."""
SILENCE_SECONDS: Final = 20.0
"""Without a token, beyond what the prompts take: an engine that is slower is none to calibrate."""
_PATIENCE: Final = 6
"""Times as long as expected that is waited for prompts."""
_IDLE_SECONDS: Final = 10.0
_IDLE_POLL: Final = 0.1
_CHUNK: Final = 64
"""Prompt tokens of a step, at the least: a clock's answer must outlast what is computed beside."""
_SPARE_TOKENS: Final = 2000
"""Of an answer beyond what is looked at: steps go by while requests are under way. Streams are
closed when they have told what they can."""


@dataclass(slots=True)
class Seen:
    """What a session brings home."""

    rungs: list[Rung] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    most_sequences: int | None = None
    """That the engine runs at once, where it was met."""


class Session:
    """One calibration of one engine."""

    def __init__(
        self,
        engine: Engine,
        max_length: int,
        most_seconds: float,
        *,
        others_allowed: bool,
        progress: Callable[[float], None],
    ) -> None:
        self._engine = engine
        self._max_length = max_length
        self._most_seconds = most_seconds
        self._others_allowed = others_allowed
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._pace = Pace(1000.0, 1.0)
        self.seen = Seen()

    async def warm_up(self) -> Pace:
        """A few prompts that do not count, and how fast the engine turned out to be."""
        probes = await self._clocked([WARM_UP_TOKENS] * WARM_UPS, "warm-up", math.inf)
        if not probes:
            raise NoModel("the engine decoded on too fast for a prompt to be measured beside it")
        works = [work.ms for probe in probes if (work := prefill_work(probe)) is not None]
        # The first prompt may have been slow for reasons of its own, any for those of the host.
        per_token = (median(works) if works else 0.0) / WARM_UP_TOKENS
        self._pace = Pace(clock_step_ms(probes[-1].clock), max(LEAST_PACE_MS, per_token))
        return self._pace

    async def run(self, design: Design, stop_at: float) -> None:
        """Everything that `design` asks for, until the clock shows `stop_at`."""
        for _ in range(design.repeats):
            await self._until_idle()
            self.seen.probes += await self._clocked(design.probes, "prompt", stop_at)
            for ladder in design.ladders:
                if self._loop.time() < stop_at:
                    await self._until_idle()
                    await self._climb(design, ladder, stop_at)
        if self._loop.time() >= stop_at:
            self.seen.notes.append("The time was up before everything had been measured.")

    async def _clocked(self, lengths: Sequence[int], name: str, stop_at: float) -> list[Probe]:
        """Prompts of these lengths, one by one, while a clock runs."""
        pending: list[tuple[LiveStream, float]] = []
        room = self._max_length - SHORT
        wanted = (len(lengths) + 2) * PROBE_STEPS + sum(lengths) // _CHUNK
        async with self._engine.streams() as streams:
            answer = min(wanted + _SPARE_TOKENS, room)
            clock = streams.open(self._engine.prompt(SHORT), answer, watched=True)
            await self._reached(clock, PROBE_STEPS)
            for length in lengths:
                if self._loop.time() >= stop_at:
                    break
                prompt = self._engine.prompt(length)
                asked = self._loop.time()
                probe = streams.open(prompt, 1, watched=True)
                await self._reached(probe, 1, length)
                try:
                    await self._reached(clock, clock.tokens + PROBE_STEPS)
                except AnswerOver:
                    self.seen.notes.append(f"The engine decoded on too fast to measure {name}s.")
                    break
                pending.append((probe, asked))
                await self._check_alone(1)
                self._progress(self._cost_ms(length, PROBE_STEPS))
            seen = clock.frozen()
        return [
            Probe(
                f"{name} {one.prompt_tokens}",
                one.prompt_tokens,
                one.cached_tokens,
                asked,
                one.first,
                seen,
            )
            for one, asked in pending
        ]

    async def _climb(self, design: Design, ladder: Ladder, stop_at: float) -> None:
        """One ladder, rung by rung, as far as it goes."""
        answer = design.answer_tokens(ladder) + _SPARE_TOKENS
        before = await self._engine.state()
        async with self._engine.streams() as streams:
            for place, lengths in enumerate(ladder.rungs):
                if self._loop.time() >= stop_at or self._is_too_much(len(streams) + len(lengths)):
                    return
                if not await self._all_decode(self._add(streams, lengths, answer)):
                    return
                rung = await self._held(streams, f"{ladder.name} {place + 1}", design.steps)
                streams.check()
                if rung is None or _preempted(before, await self._check_alone(len(streams))):
                    self._note_end(
                        ladder,
                        "answers came to their end"
                        if rung is None
                        else f"the KV cache was full with {len(streams)} sequences",
                    )
                    return
                self.seen.rungs.append(rung)
                self._progress(self._cost_ms(sum(lengths), design.steps))

    async def _held(self, streams: Streams, name: str, steps: int) -> Rung | None:
        """So many steps of a batch; None if an answer came to its end before."""
        start, pace = self._loop.time(), streams.oldest
        try:
            await self._reached(pace, pace.tokens + steps)
        except AnswerOver:
            return None
        return Rung(name, start, self._loop.time(), streams.frozen())

    def _note_end(self, ladder: Ladder, why: str) -> None:
        self.seen.notes.append(f"The higher rungs of ladder {ladder.name!r} were left out: {why}.")

    def _is_too_much(self, sequences: int) -> bool:
        """Whether the engine has shown that it does not run as many at once."""
        return sequences > (self.seen.most_sequences or math.inf)

    def _add(self, streams: Streams, lengths: Sequence[int], answer: int) -> list[LiveStream]:
        """Send prompts; the first of each rung is watched until enough are."""
        added = []
        for place, length in enumerate(lengths):
            watched = place == 0 and streams.watched < MOST_WATCHED
            tokens = min(answer, self._max_length - length)
            added.append(streams.open(self._engine.prompt(length), tokens, watched=watched))
        return added

    async def _all_decode(self, added: Sequence[LiveStream]) -> bool:
        """Wait until all have their first token; False if the engine lets no more in."""
        tokens = sum(stream.prompt_tokens for stream in added)
        try:
            for stream in added:
                await stream.reached(1, self._patience(tokens))
        except TimeoutError:
            state = await self._engine.state()
            if state is None or not state.waiting:
                raise self._silent(self._patience(tokens)) from None
            self.seen.most_sequences = state.running
            self.seen.notes.append(
                f"The engine runs at most {state.running} sequences at a time, so larger batches "
                "than that were left out."
            )
            return False
        return True

    async def _reached(self, stream: LiveStream, tokens: int, prompt_tokens: int = 0) -> None:
        silence = self._patience(prompt_tokens)
        try:
            await stream.reached(tokens, silence)
        except TimeoutError:
            raise self._silent(silence) from None

    def _patience(self, prompt_tokens: int) -> float:
        """Seconds without a token after which an engine that computes prompts is given up."""
        expected = prompt_tokens * self._pace.prefill_ms_per_token / 1000
        return min(self._most_seconds, SILENCE_SECONDS + _PATIENCE * expected)

    def _cost_ms(self, prompt_tokens: int, steps: int) -> float:
        return prompt_tokens * self._pace.prefill_ms_per_token + steps * self._pace.step_ms

    async def _check_alone(self, ours: int) -> EngineState | None:
        """The engine's state. Raises EngineBusy if others use it and that is not allowed."""
        state = await self._engine.state()
        if state is not None and state.requests > ours and not self._others_allowed:
            raise EngineBusy(
                f"the engine began to serve others ({state.requests} requests, {ours} of them "
                "ours): their steps would be measured with ours, so all was given up; take it out "
                "of service first, or say --yes-load-it"
            )
        return state

    async def _until_idle(self) -> None:
        """Wait until the engine has dropped what was closed."""
        if self._others_allowed:
            return
        give_up = self._loop.time() + _IDLE_SECONDS
        while True:
            state = await self._engine.state()
            if state is None or not state.requests:
                return
            if self._loop.time() >= give_up:
                await self._check_alone(0)
            await asyncio.sleep(_IDLE_POLL)

    def _silent(self, seconds: float) -> Unreachable:
        return Unreachable(
            f"the engine sent no token for {seconds:.0f} s: look whether it still runs, and at its "
            "log"
        )


def _preempted(before: EngineState | None, after: EngineState | None) -> bool:
    return before is not None and after is not None and after.preemptions > before.preemptions
