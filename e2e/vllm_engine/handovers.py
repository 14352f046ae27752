"""Streams that are handed over a known number of times, beside the same streams uncut."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from e2e.continuity_suite.answer import read_stream
from e2e.continuity_suite.cases import Ask
from e2e.continuity_suite.differences import first_difference
from e2e.continuity_suite.prompts import Prompts
from e2e.continuity_suite.wire import Client

MOST: Final = 5
PAST_END: Final = 40
"""Tokens of a stream beyond the end of the last stage that it leaves."""
_TRACED: Final = {"x-cascade-trace": "1"}
_TRACE: Final = b": cascade handover "
_ROUNDS: Final = 3
"""Of more streams, for numbers of hand-overs that none had."""
_AT_ONCE: Final = 4
"""Few, so that a stage lasts longer than the next one needs to get ready."""


@dataclass
class Chains:
    """Streams by how often they were handed over."""

    compared: dict[int, int] = field(default_factory=dict)
    tokens: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def missing(self) -> Sequence[int]:
        """Numbers of hand-overs that no stream had."""
        return [count for count in range(1, MOST + 1) if not self.compared.get(count)]

    @property
    def passed(self) -> bool:
        """Whether every number was seen and no stream differs."""
        return not self.differences and not self.missing


async def chains(
    router: Client, reference: Client, model: str, prompts: Prompts, ends: Sequence[int], each: int
) -> Chains:
    """`each` completions and chats that cross the first, the first two, ... of `ends`."""
    found, gate = Chains(), asyncio.Semaphore(_AT_ONCE)
    traced = Client(router.url, {**router.headers, **_TRACED})

    async def one(ask: Ask, end: int) -> None:
        body = _body(model, ask, end + PAST_END)
        async with gate:
            expected = await reference.post(ask.path, body)
            got = await traced.post(ask.path, body)
        handovers = got.body.count(_TRACE)
        found.compared[handovers] = found.compared.get(handovers, 0) + 1
        wanted, answer = read_stream(expected), read_stream(got)
        found.tokens += sum(len(choice.ids) for choice in answer.choices.values())
        difference = first_difference(wanted, answer)
        if difference is not None:
            found.differences.append(f"after {handovers} hand-overs: {difference}")

    asks = [ask for chat in (False, True) for ask in prompts.rich(each, chat=chat)]
    await asyncio.gather(*(one(ask, end) for end in ends[:MOST] for ask in asks))
    for _ in range(_ROUNDS):
        # A busy machine may skip a stage: the stream has crossed it before the target is ready.
        missing = list(found.missing)
        await asyncio.gather(*(one(ask, ends[count - 1]) for count in missing for ask in asks))
    return found


def _body(model: str, ask: Ask, tokens: int) -> dict[str, Any]:
    """Text, ids and usage of all of it are compared."""
    return {
        **ask.fields, "model": model, "stream": True, "max_tokens": tokens, "ignore_eos": True,
        "return_token_ids": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
