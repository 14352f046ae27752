"""Sends the requests of an overload and notes what each client sees."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final
from urllib.request import ProxyHandler, build_opener

from e2e.bench.overload_bench.requests import Request
from e2e.engine_simulator.next_token import expected_output
from e2e.engine_simulator.vocabulary import WORD_IDS
from e2e.load.http_client import Answer, AnswerLost, HttpClient

PATH: Final = "/v1/completions"
MOST_TRIES: Final = 30


@dataclass
class Client:
    """What became of one request. Times in seconds since its first try."""

    request: Request
    first: float | None = None
    """To its first token."""
    whole: float = 0.0
    told: list[float] = field(default_factory=list)
    """Seconds after which it was told to come again, try by try."""
    waited_in_queue: float | None = None
    """From its last try to the first token."""
    fault: str = ""
    right: bool = False


@dataclass
class Seen:
    """What became of all of them."""

    clients: list[Client]
    preemptions: int


async def overload(
    urls: Sequence[str], engine_urls: Sequence[str], model: str, offered: Sequence[Request],
    ended: Callable[[], None],
) -> Seen:  # fmt: skip
    """Send all requests at their times, each to one URL by chance, as a Service of Kubernetes
    does; `ended` is called as each is done."""
    clients = [HttpClient(url) for url in urls]
    started = asyncio.get_running_loop().time()

    async def one(request: Request) -> Client:
        loop, seen = asyncio.get_running_loop(), Client(request)
        await asyncio.sleep(max(0.0, started + request.at - loop.time()))
        try:
            await _until_served(seen, clients, model)
        except AnswerLost as error:
            seen.fault = str(error)
        ended()
        return seen

    seen = await asyncio.gather(*map(one, offered))
    for client in clients:
        await client.close()
    return Seen(seen, sum(map(_preemptions, engine_urls)))


async def _until_served(seen: Client, clients: Sequence[HttpClient], model: str) -> None:
    """Try, and come again when told to, after the time that was told. Raises AnswerLost."""
    loop = asyncio.get_running_loop()
    random, began = Random(f"overload/{seen.request.number}"), loop.time()
    prompt = random.choices(WORD_IDS, k=seen.request.prompt)
    body = json.dumps(
        {
            "model": model,
            "prompt": prompt,
            "max_tokens": seen.request.output,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
        }
    ).encode()
    for _ in range(MOST_TRIES):
        sent, reading = loop.time(), _Reading()
        answer = await random.choice(clients).request("POST", PATH, body, {}, reading.take)
        if answer.status == 200:
            if reading.first is None:
                raise AnswerLost("an answer without a token")
            seen.first, seen.whole = reading.first - began, loop.time() - began
            seen.waited_in_queue = reading.first - sent
            want = expected_output(prompt, seen.request.output, ignore_eos=True).text
            seen.right = reading.text == want
            return
        seen.told.append(_told(answer))
        await asyncio.sleep(seen.told[-1])
    raise AnswerLost(f"turned away {MOST_TRIES} times")


def _told(answer: Answer) -> float:
    """When to come again. Raises AnswerLost where nothing of that is said."""
    after = answer.headers.get("retry-after")
    if answer.status != 429 or after is None:
        raise AnswerLost(f"status {answer.status} with Retry-After {after}")
    return float(after)


class _Reading:
    """Puts the text of one stream together."""

    def __init__(self) -> None:
        self.text = ""
        self.first: float | None = None
        self._rest = b""

    def take(self, data: bytes, now: float) -> None:
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            if event.startswith(b"data: {"):
                for choice in json.loads(event[6:]).get("choices", ()):
                    self.text += choice["text"]
                    self.first = self.first or now


def _preemptions(engine_url: str) -> int:
    with build_opener(ProxyHandler({})).open(f"{engine_url}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    name = "vllm:num_preemptions_total"
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(name))
