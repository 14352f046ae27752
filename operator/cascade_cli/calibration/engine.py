"""An engine over HTTP: what it serves, its state, and streams of tokens."""

import asyncio
import json
import random
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import httpx

from cascade_cli.calibration.engine_page import EngineState, read_state
from cascade_cli.calibration.events import Splitter, read_event
from cascade_cli.calibration.records import Stream
from cascade_cli.errors import BadInput, Unreachable

SHORT_SECONDS: Final = 15.0
"""Limit of connecting, and of an answer that needs no model."""
TIMEOUT: Final = httpx.Timeout(SHORT_SECONDS, read=None, pool=None)
"""Waits for tokens have limits of their own."""
IDS: Final = range(16, 256)
"""Token ids of prompts: every vocabulary has them, and a handful makes a prompt unique."""
_SHOWN: Final = 200
"""Characters of an engine's words that are shown."""


class ServedModel:
    """A line of /v1/models."""

    def __init__(self, card: Mapping[str, Any]) -> None:
        self.name = str(card.get("id", ""))
        length = card.get("max_model_len")
        self.max_length = length if isinstance(length, int) and length > 0 else None


class Engine:
    """One OpenAI-compatible engine. All errors are CommandErrors that say what to do."""

    def __init__(self, http: httpx.AsyncClient, name: str, rng: random.Random) -> None:
        self._http = http
        self._name = name
        self._rng = rng
        self.model = ""

    async def models(self) -> list[ServedModel]:
        """What it serves."""
        response = await self._get("/v1/models")
        self._check(response.status_code, response.content)
        try:
            return [ServedModel(card) for card in response.json()["data"]]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Unreachable(
                f"{self._name} answers, but not as an OpenAI-compatible engine: check the address "
                "(without /v1)"
            ) from None

    async def state(self) -> EngineState | None:
        """Its gauges; None if it shows none."""
        response = await self._get("/metrics")
        return read_state(response.text) if response.status_code == httpx.codes.OK else None

    async def version(self) -> str:
        """What it says of itself; empty if it says nothing."""
        response = await self._get("/version")
        try:
            return _brief(str(response.json()["version"]))
        except (ValueError, LookupError, TypeError):
            return ""

    def streams(self) -> "Streams":
        """Streams that end together."""
        return Streams(self)

    def prompt(self, tokens: int) -> list[int]:
        """Ids of a prompt that no prefix cache knows."""
        return self._rng.choices(IDS, k=tokens)

    async def generate(self, stream: "LiveStream", prompt: list[int]) -> None:
        """Stream an answer into `stream`."""
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": stream.asked_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        try:
            async with self._http.stream("POST", "/v1/completions", json=body) as response:
                if response.status_code != httpx.codes.OK:
                    self._check(response.status_code, await response.aread())
                await stream.read(response)
        except httpx.HTTPError as error:
            raise self._broken(error) from None
        except (ValueError, TypeError, AttributeError) as error:
            raise Unreachable(
                f"{self._name}: its stream is not that of a completion ({error})"
            ) from None

    async def _get(self, path: str) -> httpx.Response:
        try:
            async with asyncio.timeout(SHORT_SECONDS):
                return await self._http.get(path)
        except TimeoutError:
            raise Unreachable(
                f"{self._name}: no answer to {path} within {SHORT_SECONDS:g} s: check the address, "
                "and whether the engine is up"
            ) from None
        except httpx.HTTPError as error:
            raise self._broken(error) from None

    def _broken(self, error: httpx.HTTPError) -> Unreachable:
        why = _brief(str(error)) or type(error).__name__
        if isinstance(error, httpx.ConnectError):
            if "CERTIFICATE_VERIFY_FAILED" in why:
                return Unreachable(
                    f"{self._name}: its certificate is not trusted: name its authority with "
                    "--ca-file"
                )
            return Unreachable(
                f"{self._name} cannot be reached ({why}): check the address, and whether the "
                "engine runs"
            )
        return Unreachable(
            f"{self._name} broke the connection off ({why}): look whether the engine still runs, "
            "and at its log"
        )

    def _check(self, status: int, content: bytes) -> None:
        """Raise what an answer that is none comes to."""
        if status == httpx.codes.OK:
            return
        said = _words(content)
        if status in (401, 403):
            raise Unreachable(
                f"{self._name} wants credentials ({status}): give the engine's API key with "
                "--bearer-token-file or --header"
            )
        if status == httpx.codes.NOT_FOUND:
            raise Unreachable(
                f"{self._name} answers 404{said}: check the address (without /v1) and --model"
            )
        if status == httpx.codes.BAD_REQUEST:
            raise BadInput(
                f"{self._name} refuses a prompt{said}: check --max-model-len, and that it takes "
                "prompts as token ids"
            )
        raise Unreachable(f"{self._name} answers {status}{said}: check that it is healthy")


class AnswerOver(Exception):
    """An answer has come to the end that was asked for before the measurement had."""


class LiveStream:
    """A stream that is being read, up to its first event if it is not watched.

    What is not read any more stays in sockets and costs this machine nothing; the engine goes on.
    """

    def __init__(self, prompt_tokens: int, asked_tokens: int, *, watched: bool) -> None:
        self.prompt_tokens = prompt_tokens
        self.asked_tokens = asked_tokens
        self.cached_tokens = 0
        self.task: asyncio.Task[None] | None = None
        self.is_watched = watched
        self._times: list[float] = []
        self._counts: list[int] = []
        self._news = asyncio.Event()

    @property
    def tokens(self) -> int:
        """Of the answer so far."""
        return self._counts[-1] if self._counts else 0

    @property
    def first(self) -> float:
        """When its first token came."""
        return self._times[0]

    def frozen(self) -> Stream:
        """What was seen until now."""
        return Stream(self.prompt_tokens, tuple(self._times), tuple(self._counts))

    async def read(self, response: httpx.Response) -> None:
        """Note when which token comes, until the answer ends."""
        splitter, clock = Splitter(), asyncio.get_running_loop()
        async for data in response.aiter_bytes():
            now = clock.time()
            for field in splitter.feed(data):
                self._note(now, field)
            if self._times and not self.is_watched:
                await asyncio.Event().wait()

    async def reached(self, tokens: int, silence: float) -> None:
        """Wait for `tokens` tokens.

        Raises TimeoutError when none comes for `silence` seconds, AnswerOver, and what the stream
        fails with.
        """
        assert self.task is not None, "it has been opened"
        while self.tokens < tokens:
            self._news.clear()
            news = asyncio.ensure_future(self._news.wait())
            try:
                done, _ = await asyncio.wait(
                    {news, self.task}, timeout=silence, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                news.cancel()
            if self.task in done and self.tokens < tokens:
                self.task.result()
                raise self._over()
            if not done:
                raise TimeoutError

    def _over(self) -> Exception:
        if self.tokens >= self.asked_tokens:
            return AnswerOver()
        return Unreachable(
            f"the engine ended an answer after {self.tokens} of {self.asked_tokens} tokens, though "
            "it was asked to ignore the end of text: calibration needs an engine that knows vLLM's "
            "ignore_eos"
        )

    def _note(self, now: float, field: bytes) -> None:
        event = read_event(field)
        if event.error:
            raise Unreachable(f"the engine gave up in mid-answer: {_brief(event.error)}")
        self.cached_tokens = max(self.cached_tokens, event.cached)
        tokens = self.tokens + event.brought if event.tokens is None else event.tokens
        if tokens > self.tokens:
            self._times.append(now)
            self._counts.append(tokens)
            self._news.set()


class Streams:
    """Streams of one batch. Leaving the context closes them, and the engine drops its sequences."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._all: list[LiveStream] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tasks = [stream.task for stream in self._all if stream.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def open(self, prompt: list[int], tokens: int, *, watched: bool) -> LiveStream:
        """Send a prompt, for an answer of at most `tokens` tokens."""
        stream = LiveStream(len(prompt), tokens, watched=watched)
        stream.task = asyncio.create_task(self._engine.generate(stream, prompt))
        self._all.append(stream)
        return stream

    def frozen(self) -> tuple[Stream, ...]:
        """All of them as they are now."""
        return tuple(stream.frozen() for stream in self._all)

    def check(self) -> None:
        """Raise what any of them has failed with: then the batch is not what it should be."""
        for stream in self._all:
            if stream.task is not None and stream.task.done():
                stream.task.result()

    @property
    def oldest(self) -> LiveStream:
        """The one that was opened first."""
        return self._all[0]

    @property
    def watched(self) -> int:
        """How many are read to their end."""
        return sum(stream.is_watched for stream in self._all)

    def __len__(self) -> int:
        return len(self._all)


def _words(content: bytes) -> str:
    """What an engine said of an error, to be put after its status; may be empty."""
    try:
        body = json.loads(content)
        error = body.get("error", body)
        text = error.get("message", "") if isinstance(error, dict) else error
    except (ValueError, AttributeError, RecursionError):
        return ""
    return f" ({_brief(str(text))})" if text else ""


def _brief(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
