"""Holds the conversations with one service, and counts what its engines computed for them."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.request import ProxyHandler, build_opener

from e2e.bench.chat_bench.conversations import Conversation, Turn
from e2e.engine_simulator.next_token import expected_output
from e2e.engine_simulator.vocabulary import chat_prompt
from e2e.load.http_client import AnswerLost, HttpClient

PATH = "/v1/chat/completions"
Messages = list[dict[str, str]]


@dataclass
class Timing:
    """One answer. Times in seconds, lengths in tokens."""

    prompt_tokens: int
    first: float
    whole: float


@dataclass
class Talk:
    """What came of all conversations."""

    timings: list[Timing] = field(default_factory=list)
    wrong: int = 0
    lost: int = 0
    prompt_tokens: float = 0.0
    """Of all prompts, as the engines counted them."""
    cached_tokens: float = 0.0
    """Of these, the ones that they held."""

    @property
    def computed_share(self) -> float:
        """Part of the prompts that was computed."""
        return 1 - self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


class _Reading:
    """Puts the text of one streamed chat together."""

    def __init__(self) -> None:
        self.text = ""
        self.first: float | None = None
        self._rest = b""

    def feed(self, data: bytes, now: float) -> None:
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            if not event.startswith(b"data: {"):
                continue
            for choice in json.loads(event[6:]).get("choices", ()):
                text = choice["delta"].get("content") or ""
                if text and self.first is None:
                    self.first = now
                self.text += text


async def talk(
    urls: Sequence[str],
    engine_urls: Sequence[str],
    said: Sequence[Conversation],
    model: str,
    where: Callable[[int, int], int],
) -> Talk:
    """Hold all conversations; `where(session, turn)` is the number of the URL for a turn."""
    clients = [HttpClient(url) for url in urls]
    result = Talk()
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def session(one: Conversation) -> None:
        await asyncio.sleep(max(0.0, started + one.start - loop.time()))
        messages: Messages = [{"role": "system", "content": one.system}]
        for number, turn in enumerate(one.turns):
            await asyncio.sleep(turn.pause)
            messages.append({"role": "user", "content": turn.question})
            client = clients[where(one.number, number)]
            try:
                answer = await _ask(client, messages, turn, model, result)
            except AnswerLost:
                result.lost += 1
                return
            messages.append({"role": "assistant", "content": answer})

    await asyncio.gather(*map(session, said))
    for client in clients:
        await client.close()
    result.prompt_tokens = sum(_metric(url, "vllm:prompt_tokens_total") for url in engine_urls)
    result.cached_tokens = sum(
        _metric(url, "vllm:prompt_tokens_cached_total") for url in engine_urls
    )
    return result


async def _ask(client: HttpClient, messages: Messages, turn: Turn, model: str, result: Talk) -> str:
    loop = asyncio.get_running_loop()
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": turn.answer_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }
    prompt = chat_prompt(messages)
    reading, sent = _Reading(), loop.time()
    answer = await client.request("POST", PATH, json.dumps(body).encode(), {}, reading.feed)
    if answer.status != 200 or reading.first is None:
        raise AnswerLost(f"status {answer.status}")
    result.timings.append(Timing(len(prompt), reading.first - sent, loop.time() - sent))
    want = expected_output(prompt, turn.answer_tokens, ignore_eos=True).text
    result.wrong += reading.text != want
    return reading.text


def _metric(url: str, name: str) -> float:
    with build_opener(ProxyHandler({})).open(f"{url}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))
