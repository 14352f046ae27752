"""The gaps between the tokens of streams, those at hand-overs apart."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from e2e.engine_simulator.next_token import expected_output
from e2e.engine_simulator.vocabulary import WORD_IDS
from e2e.load.http_client import AnswerLost, HttpClient

PATH: Final = "/v1/completions"
TRACE: Final = {"x-cascade-trace": "1"}


@dataclass
class Gaps:
    """Of all streams. Times in seconds."""

    streams: int = 0
    wrong: int = 0
    lost: int = 0
    usual: list[float] = field(default_factory=list)
    at_handover: list[float] = field(default_factory=list)

    @property
    def handovers(self) -> int:
        """How many there were."""
        return len(self.at_handover)


@dataclass
class _Stream:
    """Reads one stream. A comment in it tells of each hand-over."""

    gaps: Gaps
    text: str = ""
    _last: float | None = None
    _handed_over: bool = False
    _rest: bytes = b""

    def take(self, data: bytes, now: float) -> None:
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            if event.startswith(b":"):
                self._handed_over = True
            elif event.startswith(b"data: {"):
                self._event(json.loads(event[6:]), now)

    def _event(self, event: dict[str, Any], now: float) -> None:
        text = "".join(choice["text"] for choice in event.get("choices", ()))
        if not text:
            return
        self.text += text
        if self._last is not None:
            found = self.gaps.at_handover if self._handed_over else self.gaps.usual
            found.append(now - self._last)
        self._last, self._handed_over = now, False


async def gaps(
    url: str,
    model: str,
    prompts: Sequence[int],
    output: int,
    apart: float,
    done: Callable[[], None],
) -> Gaps:
    """Of one stream for each prompt length, which begin `apart` seconds from each other; `done` is
    called after each."""
    client, result = HttpClient(url), Gaps()

    async def one(number: int, length: int) -> None:
        await asyncio.sleep(number * apart)
        await _stream(client, model, number, length, output, result)
        done()

    await asyncio.gather(*(one(number, length) for number, length in enumerate(prompts)))
    await client.close()
    return result


async def _stream(
    client: HttpClient, model: str, number: int, length: int, output: int, result: Gaps
) -> None:
    prompt = Random(f"handover/{number}").choices(WORD_IDS, k=length)
    body = {"model": model, "prompt": prompt, "max_tokens": output, "ignore_eos": True}
    reading = _Stream(result)
    result.streams += 1
    try:
        answer = await client.request(
            "POST", PATH, json.dumps({**body, "stream": True}).encode(), TRACE, reading.take
        )
    except AnswerLost:
        result.lost += 1
        return
    result.lost += answer.status != 200
    result.wrong += reading.text != expected_output(prompt, output, ignore_eos=True).text
