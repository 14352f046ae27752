"""Sends the requests of a schedule in time, follows their answers, and reports."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

from cascade_cli.traces import TraceRequest
from e2e.load.answer_check import AnswerCheck
from e2e.load.http_client import Answer, AnswerLost, HttpClient
from e2e.load.options import Options
from e2e.load.report import JsonObject, Report, Timing
from e2e.load.schedule import Arrival, Schedule, cut_answers, make_schedule
from e2e.load.workload import LoadRequest, make_request
from e2e.traces.trace import read_trace

HEADERS: Final = {"x-cascade-trace": "1"}
BUSY: Final = (429, 503)
MOST_RETRY_SECONDS: Final = 30.0
WARMUP_TOKENS: Final = 8
WARMUP_INDEX: Final = -1_000_000
"""Warm-up requests have prompts of their own: they fill no cache for the measured ones."""

Emit = Callable[[JsonObject], None]


class EndpointUnusable(Exception):
    """The endpoint does not answer as it must before any load is sent; the message says how."""


async def replay(options: Options, emit: Emit, stop: asyncio.Event | None = None) -> JsonObject:
    """Replay as `options` say; the summary record, which is emitted last too.

    A set `stop` ends the sending: what is in flight is still waited for.
    Raises EndpointUnusable, InvalidTrace, InvalidSlice.
    """
    schedule = make_schedule(
        read_trace(options.trace),
        rate=options.requests_per_second,
        duration=options.duration,
        offset=options.offset,
    )
    if options.longest_answer:
        schedule = cut_answers(schedule, options.longest_answer)
    client = HttpClient(options.url)
    try:
        model, max_length = await _model(client, options)
        run = _Replay(options, schedule, client, model, max_length, emit)
        return await run.run(stop or asyncio.Event())
    finally:
        await client.close()


async def _model(client: HttpClient, options: Options) -> tuple[str, int]:
    """Name and greatest length of the model, as given or as the endpoint lists them."""
    if options.model and options.max_length:
        return options.model, options.max_length
    try:
        answer = await client.request("GET", "/v1/models")
        models = json.loads(answer.body)["data"] if answer.status == 200 else []
    except (AnswerLost, ValueError, KeyError, TypeError) as error:
        raise EndpointUnusable(f"{options.url}/v1/models: {error}") from None
    listed = {entry["id"]: entry.get("max_model_len") or 0 for entry in models}
    name = options.model or next(iter(listed), "")
    if name not in listed:
        raise EndpointUnusable(
            f"{options.url}/v1/models answered {answer.status} and lists {sorted(listed)}, not "
            f"{name or 'any model'!r}: is the service ready, and is --model right?"
        )
    return name, options.max_length or listed[name]


class _Replay:
    """One replay under way."""

    def __init__(
        self,
        options: Options,
        schedule: Schedule,
        client: HttpClient,
        model: str,
        max_length: int,
        emit: Emit,
    ) -> None:
        self._options = options
        self._schedule = schedule
        self._client = client
        self._model = model
        self._max_length = max_length
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._report = Report()
        self._start = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> JsonObject:
        await self._warm_up()
        self._emit(self._header())
        self._start = self._loop.time()
        ticker = self._loop.create_task(self._tick())
        try:
            await self._send_all(stop)
            sending_seconds = self._elapsed()
            await self._drain()
        finally:
            ticker.cancel()
        summary = self._report.summary() | {
            "trace": self._header(),
            "sendingSeconds": round(sending_seconds, 2),
            "seconds": round(self._elapsed(), 2),
        }
        self._emit(summary)
        return summary

    def _elapsed(self) -> float:
        return self._loop.time() - self._start

    def _header(self) -> JsonObject:
        """Which slice of which trace is replayed, and how much faster than it was recorded."""
        return {
            "kind": "start",
            "name": self._options.trace,
            "model": self._model,
            "requests": len(self._schedule.arrivals),
            "requestsPerSecond": self._options.requests_per_second,
            "duration": self._options.duration,
            "offset": self._options.offset,
            "traceSeconds": round(self._schedule.trace_seconds, 3),
            "timeFactor": round(self._schedule.time_factor, 4),
            "laps": self._schedule.laps,
            "seed": self._options.seed,
        }

    async def _warm_up(self) -> None:
        """A few short requests, one after the other, so that every path has been used once."""
        for place in range(self._options.warmup):
            row = TraceRequest(0.0, WARMUP_TOKENS * 4, WARMUP_TOKENS)
            arrival = Arrival(0.0, WARMUP_INDEX + place, row)
            request = make_request(
                arrival,
                model=self._model,
                seed=self._options.seed,
                pinned_share=self._options.pinned_share,
            )
            try:
                await self._ask(request, AnswerCheck(request), Report())
            except AnswerLost as error:
                raise EndpointUnusable(f"warm-up request: {error}") from None

    async def _send_all(self, stop: asyncio.Event) -> None:
        for arrival in self._schedule.arrivals:
            row = arrival.request
            if self._max_length and row.prompt_tokens + row.output_tokens > self._max_length:
                self._report.skipped += 1
                continue
            # Made before its time, so that making it delays nothing.
            request = make_request(
                arrival,
                model=self._model,
                seed=self._options.seed,
                pinned_share=self._options.pinned_share,
            )
            await _wait(stop, self._start + arrival.at - self._loop.time())
            if stop.is_set():
                return
            self._report.sent += 1
            self._report.send_lags.append(max(0.0, (self._elapsed() - arrival.at) * 1000))
            task = self._loop.create_task(self._follow(request, arrival))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        """Wait for the last answers; those that do not come are lost."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._options.drain_timeout)
        late = tuple(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _tick(self) -> None:
        for second in range(1, 1_000_000):
            await asyncio.sleep(max(0.0, self._start + second - self._loop.time()))
            self._client.give_up_silent(self._options.silence_timeout)
            self._emit(self._report.progress(self._elapsed()))

    async def _follow(self, request: LoadRequest, arrival: Arrival) -> None:
        """One request from sending to judgement."""
        check = AnswerCheck(request)
        started = self._loop.time()
        try:
            answer = await self._ask(request, check, self._report)
            check.finish(self._loop.time())
            self._judge(request, arrival, check, answer, started)
        except AnswerLost as error:
            received, whole = check.received_characters, len(request.expected.text)
            detail = f"{error}; {received} of {whole} characters had come"
            self._report.note_lost(request.index, request.kind, str(error), detail)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            reason = "the answer is not of the OpenAI form"
            self._report.note_lost(request.index, request.kind, reason, f"{reason}: {error!r}")
        except asyncio.CancelledError:
            reason = "not answered within the drain timeout"
            self._report.note_lost(request.index, request.kind, reason, reason)
        finally:
            if request.stream:
                self._report.note_handovers(check.handovers, check.handovers_up)

    async def _ask(self, request: LoadRequest, check: AnswerCheck, report: Report) -> Answer:
        """Send until the answer is not "busy"; a 200. Raises AnswerLost."""
        for attempt in range(1, self._options.tries + 1):
            answer = await self._client.request(
                "POST", request.path, request.body, HEADERS, check.feed
            )
            if answer.status not in BUSY or attempt == self._options.tries:
                break
            report.retries += 1
            await asyncio.sleep(_retry_seconds(answer))
        if answer.status != 200:
            raise AnswerLost(f"HTTP {answer.status}: {_message(answer)}")
        return answer

    def _judge(
        self,
        request: LoadRequest,
        arrival: Arrival,
        check: AnswerCheck,
        answer: Answer,
        started: float,
    ) -> None:
        if check.error is not None:
            raise AnswerLost(f"error in the stream: {check.error[:200]}")
        if not check.done:
            raise AnswerLost("the stream ended without [DONE]")
        if not request.stream:
            self._report.note_handovers(int(answer.headers.get("x-cascade-handovers") or 0))
        if check.difference is not None:
            self._report.note_wrong(request.index, request.kind, check.difference)
        now = self._loop.time()
        tokens = len(request.expected.ids)
        ttft = tpot = None
        if request.stream:
            ttft = (check.first_token - started) * 1000
            if tokens > 1:
                tpot = (check.last_token - check.first_token) * 1000 / (tokens - 1)
        timing = Timing(
            ended=now - self._start,
            prompt_tokens=len(request.prompt),
            output_tokens=tokens,
            ttft=ttft,
            tpot=tpot,
            e2e=(now - started) * 1000,
            measured=arrival.at >= self._options.exclude_first,
        )
        self._report.note_completed(timing)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    """Wait for `seconds` or until `stop` is set."""
    if seconds <= 0:
        return
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def _retry_seconds(answer: Answer) -> float:
    try:
        return min(max(float(answer.headers.get("retry-after", "1")), 0.05), MOST_RETRY_SECONDS)
    except ValueError:
        return 1.0


def _message(answer: Answer) -> str:
    try:
        body: Any = json.loads(answer.body)
        return str(body["error"]["message"])[:200]
    except (ValueError, KeyError, TypeError):
        return answer.body[:200].decode("utf-8", "replace")
