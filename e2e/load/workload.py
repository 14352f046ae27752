"""Makes the requests: prompts of an exact length, and what the answer to each must be."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from random import Random
from typing import Any, Final

from cascade_cli.traces import BLOCK_TOKENS
from e2e.engine_simulator.next_token import Output, expected_output
from e2e.engine_simulator.vocabulary import WORD_IDS, chat_prompt, detokenise
from e2e.load.schedule import Arrival

UNSTREAMED_SHARE: Final = 0.05
WITH_IDS_SHARE: Final = 0.25
WITH_USAGE_SHARE: Final = 0.5
NEVER: Final = "~~~"
"""Engines stop at it, and make no such text."""


class Kind(StrEnum):
    """How the prompt is given."""

    IDS = "completions with ids"
    TEXT = "completions with text"
    CHAT = "chat"


_SHARES: Final = ((0.4, Kind.IDS), (0.6, Kind.TEXT), (1.0, Kind.CHAT))
_CHAT_OVERHEAD: Final = len(chat_prompt([{"role": "user", "content": ""}]))


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One request and everything that its answer must be."""

    index: int
    kind: Kind
    path: str
    body: bytes
    stream: bool
    prompt: tuple[int, ...]
    max_tokens: int
    with_ids: bool
    with_usage: bool
    expected: Output


def make_request(
    arrival: Arrival, *, model: str, seed: int, pinned_share: float = 0.0
) -> LoadRequest:
    """The request of one arrival; the same for the same seed.

    max_tokens is the trace's output length and the end of text is ignored, so that the answer is
    as long as the recorded one. `pinned_share` of them have a stop string, which never comes.
    """
    random = Random(f"{seed}/{arrival.index}")
    row = arrival.request
    kind = _kind(random.random(), row.prompt_tokens)
    words = _words(row.prompt_tokens, row.blocks, random, seed)
    stream = random.random() >= UNSTREAMED_SHARE
    with_ids = random.random() < WITH_IDS_SHARE
    with_usage = random.random() < WITH_USAGE_SHARE
    fields: dict[str, Any] = {
        "model": model,
        "max_tokens": row.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": stream,
    }
    if with_ids:
        fields["return_token_ids"] = True
    if with_usage and stream:
        fields["stream_options"] = {"include_usage": True}
    if random.random() < pinned_share:
        fields["stop"] = [NEVER]
    prompt = words
    if kind is Kind.CHAT:
        message = {"role": "user", "content": detokenise(words[: len(words) - _CHAT_OVERHEAD])}
        fields["messages"] = [message]
        prompt = chat_prompt([message])
    else:
        fields["prompt"] = words if kind is Kind.IDS else detokenise(words)
    return LoadRequest(
        index=arrival.index,
        kind=kind,
        path="/v1/chat/completions" if kind is Kind.CHAT else "/v1/completions",
        body=json.dumps(fields, separators=(",", ":")).encode(),
        stream=stream,
        prompt=tuple(prompt),
        max_tokens=row.output_tokens,
        with_ids=with_ids,
        with_usage=with_usage or not stream,
        expected=expected_output(prompt, row.output_tokens, ignore_eos=True),
    )


def _kind(draw: float, prompt_tokens: int) -> Kind:
    kind = next(kind for share, kind in _SHARES if draw < share)
    return Kind.TEXT if kind is Kind.CHAT and prompt_tokens <= _CHAT_OVERHEAD else kind


def _words(count: int, blocks: Sequence[int], random: Random, seed: int) -> list[int]:
    if not blocks:
        return random.choices(WORD_IDS, k=count)
    ids: list[int] = []
    for block in blocks:
        ids += _block(block, seed)
    return ids[:count]


@lru_cache(maxsize=4096)
def _block(block: int, seed: int) -> tuple[int, ...]:
    """The words of one block of the trace: equal numbers give equal text."""
    return tuple(Random(f"{seed}/block/{block}").choices(WORD_IDS, k=BLOCK_TOKENS))
