"""Runs cases against a server and says what became of them."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from e2e.continuity_suite.answer import Answer, read_stream, read_whole
from e2e.continuity_suite.cases import Ask, Case, How
from e2e.continuity_suite.differences import first_difference
from e2e.continuity_suite.engines import Engines
from e2e.continuity_suite.wire import Client, LeaveNow, Received

STREAMS_AT_ONCE: Final = 12
STOP_SECONDS: Final = 10.0
"""How long engines may go on for a client that has left."""
_TURNS: Final = 2
"""How often each engine gets a fault, if none was struck before."""
KILL_AFTER_EVENTS: Final = 40
"""Events of the slowest stream after which an engine is killed."""
HEADER_PINNED: Final = "x-cascade-pinned"
HEADER_INSTANCE: Final = "x-cascade-instance"


class Verdict(StrEnum):
    """What became of a case."""

    PASSED = "passed"
    FAILED = "FAILED"
    NOT_SUPPORTED = "not supported"
    """The engine itself refuses what the case asks for."""
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Result:
    """A case and its verdict; `difference` says what is wrong, or why nothing was judged."""

    case: Case
    verdict: Verdict
    difference: str = ""
    seconds: float = 0.0
    pinned: str = ""
    """Why our router did not hand it over."""


@dataclass
class Target:
    """What is judged, what it is compared with, and what may be done to it."""

    client: Client
    model: str
    reference: Client | None = None
    """The engine alone; without it, the target's own unstreamed answers stand in."""
    engines: Engines | None = None
    kill: Callable[[], Awaitable[None]] | None = None
    """Kills the engine with the most streams, if that is to be done."""


@dataclass
class _Seen:
    """What the requests of one case showed."""

    compared: int = 0
    differences: list[str] = field(default_factory=list)
    unsupported: str = ""
    pinned: str = ""


class Judge:
    """Judges cases one after the other; the requests of one go side by side."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._gate = asyncio.Semaphore(STREAMS_AT_ONCE)
        self._known: dict[str, Answer] = {}

    async def judge(self, case: Case) -> Result:
        """The verdict on one case."""
        loop = asyncio.get_running_loop()
        began, seen = loop.time(), _Seen()
        reason = self._reason_to_skip(case)
        if reason:
            return Result(case, Verdict.SKIPPED, reason)
        try:
            match case.how:
                case How.LEAVE:
                    await self._leave(case, seen)
                case How.STRIKE:
                    reason = await self._strike(case, seen)
                case How.KILL:
                    await self._kill(case, seen)
                case _:
                    asked = (self._compare(case, ask, seen) for ask in case.asks)
                    await asyncio.gather(*asked)
        except Exception as error:  # A broken server must not end the suite.
            seen.differences.append(f"the suite could not go on: {type(error).__name__}: {error}")
        return _verdict(case, seen, reason, loop.time() - began)

    def _reason_to_skip(self, case: Case) -> str:
        target = self._target
        if not case.asks:
            return "no prompt is known that makes this engine do it"
        if case.how is How.LEAVE and target.engines is None:
            return "needs --engine URL, to see whether engines stop"
        if case.how is How.STRIKE and (target.engines is None or not target.engines.take_faults):
            return "needs --engine URL of engine simulators with --allow-faults"
        return "needs --disrupt kill-engine" if case.how is How.KILL and not target.kill else ""

    # Answers ----------------------------------------------------------------------------------

    async def _compare(self, case: Case, ask: Ask, seen: _Seen) -> None:
        streamed = case.how is not How.WHOLE
        expected = await self._expected(case, ask)
        received = await self._ask(self._target.client, ask, streamed, slow=case.how is How.SLOW)
        self._note(case, ask, expected, _read(received, streamed), seen)

    def _note(self, case: Case, ask: Ask, expected: Answer, got: Answer, seen: _Seen) -> None:
        seen.compared += 1
        if HEADER_INSTANCE in got.headers:
            seen.pinned = got.headers.get(HEADER_PINNED, "")
            if case.pin is not None and seen.pinned != case.pin:
                seen.differences.append(f"pinned {seen.pinned!r}, expected {case.pin!r}")
        if expected.lost is not None:
            seen.differences.append(f"the reference gave no answer: {expected.lost}")
            return
        if expected.error is not None and not case.refused:
            seen.unsupported = f"the engine answers {expected.status}: {expected.error['message']}"
        if self._reference_is_unstreamed(case):
            expected = _as_streamed(expected, got, ask)
        if case.alone and got.fingerprint is None:
            # It rides on the last event, which may have died with its engine.
            got.fingerprint = expected.fingerprint
        found = first_difference(expected, got)
        if found is not None:
            seen.differences.append(found)

    async def _expected(self, case: Case, ask: Ask) -> Answer:
        """What the engine alone says; asked once for each request."""
        target, streamed = self._target, case.how is not How.WHOLE
        client = target.reference
        if self._reference_is_unstreamed(case):
            client, streamed = target.client, False
        if client is None:
            client = target.client
        key = f"{client.url} {streamed} {ask.path} {ask.fields}"
        if key not in self._known:
            self._known[key] = _read(await self._ask(client, ask, streamed), streamed)
        return self._known[key]

    def _reference_is_unstreamed(self, case: Case) -> bool:
        return case.how is How.BOTH or self._target.reference is None

    async def _ask(
        self,
        client: Client,
        ask: Ask,
        streamed: bool,
        *,
        slow: bool = False,
        watch: Callable[[Received], None] | None = None,
    ) -> Received:
        body: dict[str, Any] = {"model": self._target.model, "stream": streamed, **ask.fields}
        if not body["stream"]:
            body.pop("stream_options", None)
        async with self._gate:
            return await client.post(ask.path, body, slow=slow, watch=watch)

    # Disruptions ------------------------------------------------------------------------------

    async def _leave(self, case: Case, seen: _Seen) -> None:
        engines = self._target.engines
        if engines is None:
            return
        asked = [
            self._ask(self._target.client, ask, True, watch=_leaver(after))
            for ask, after in zip(case.asks, case.leave_after, strict=True)
            if after
        ]
        tasks = [
            asyncio.ensure_future(self._ask(self._target.client, ask, True))
            for ask, after in zip(case.asks, case.leave_after, strict=True)
            if not after
        ]
        if tasks:
            await engines.until_running(STOP_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for received in await asyncio.gather(*asked):
            if not received.left:
                seen.differences.append(f"the stream ended by itself: {received.lost}")
        left = await engines.until_idle(STOP_SECONDS)
        if left:
            seen.differences.append(
                f"{left} sequences still run {STOP_SECONDS:g} s after their clients have left"
            )

    async def _strike(self, case: Case, seen: _Seen) -> str:
        """Why nothing was judged, if no fault struck."""
        struck = 0
        for fault in case.faults:
            for ask in case.asks:
                struck += await self._strike_each(case, ask, fault, seen)
        return "" if struck else "no engine that has the fault was asked"

    async def _strike_each(
        self, case: Case, ask: Ask, fault: Mapping[str, Any], seen: _Seen
    ) -> int:
        """How many engines the fault has struck, in turn."""
        engines, client = self._target.engines, self._target.client
        if engines is None:
            return 0
        expected = await self._expected(_streaming(case, ask), ask)
        streamed, struck = bool(ask.fields.get("stream", True)), 0
        for _ in range(_TURNS):
            for engine in engines.clients:
                await engines.set_fault(engine, fault)
                received = await self._ask(client, ask, streamed)
                struck += await engines.clear_fault(engine)
                self._note(case, ask, expected, _read(received, streamed), seen)
            if struck:
                break
            # Engines that are asked in turn, in step with their faults, get out of step by this.
            await self._ask(client, ask, streamed)
        return struck

    async def _kill(self, case: Case, seen: _Seen) -> None:
        kill = self._target.kill
        if kill is None:
            return
        expected = [await self._expected(case, ask) for ask in case.asks]
        progress, ready = [0] * len(case.asks), asyncio.Event()

        def watcher(number: int) -> Callable[[Received], None]:
            def watch(received: Received) -> None:
                progress[number] = received.events
                if min(progress) >= KILL_AFTER_EVENTS or received.status not in (0, 200):
                    ready.set()

            return watch

        tasks = [
            asyncio.ensure_future(self._ask(self._target.client, ask, True, watch=watcher(number)))
            for number, ask in enumerate(case.asks)
        ]
        done = asyncio.gather(*tasks)
        done.add_done_callback(lambda _: ready.set())
        await ready.wait()
        await kill()
        for ask, wanted, received in zip(case.asks, expected, await done, strict=True):
            self._note(case, ask, wanted, _read(received, True), seen)


def _streaming(case: Case, ask: Ask) -> Case:
    """The case by which the reference is asked."""
    whole = ask.fields.get("stream") is False
    return Case(case.group, case.name, case.asks, How.WHOLE if whole else How.STREAMED)


def _read(received: Received, streamed: bool) -> Answer:
    return read_stream(received) if streamed else read_whole(received)


def _leaver(after: int) -> Callable[[Received], None]:
    def watch(received: Received) -> None:
        if received.events >= after:
            raise LeaveNow

    return watch


def _as_streamed(whole: Answer, got: Answer, ask: Ask) -> Answer:
    """An unstreamed answer as its stream would be: with usage only where that was asked for."""
    asked = (ask.fields.get("stream_options") or {}).get("include_usage")
    return Answer(
        whole.status,
        whole.lost,
        whole.error,
        whole.choices,
        whole.usage if asked else None,
        got.counted,
        whole.fingerprint,
        headers=whole.headers,
    )


def _verdict(case: Case, seen: _Seen, reason: str, seconds: float) -> Result:
    if seen.unsupported and all("status" not in one for one in seen.differences):
        return Result(case, Verdict.NOT_SUPPORTED, seen.unsupported, seconds, seen.pinned)
    if seen.differences:
        several = len(seen.differences)
        more = f" ({several} of {seen.compared} answers differ)" if several > 1 else ""
        found = seen.differences[0] + more
        return Result(case, Verdict.FAILED, found, seconds, seen.pinned)
    if reason:
        return Result(case, Verdict.SKIPPED, reason, seconds)
    return Result(case, Verdict.PASSED, "", seconds, seen.pinned)


def chosen(cases: Iterable[Case], pattern: str | None) -> Iterator[Case]:
    """The cases whose group or name matches a regular expression."""
    for case in cases:
        if pattern is None or re.search(pattern, f"{case.group}: {case.name}"):
            yield case
