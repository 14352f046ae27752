"""What an engine's word about the length of a prompt teaches, and what it does not."""

import json
from typing import Any, cast

import pytest

from cascade_policy.accounting import CHAT_PATH
from cascade_router.http1 import Request
from cascade_router.measure import MESSAGE_TOKENS, LengthGauge
from cascade_router.metrics import Metrics
from cascade_router.peers import Peers
from cascade_router.prompt_text import prompt_text
from cascade_router.request import Generation, parse
from tests.router.core.loop import on_uvloop

IMAGE = {"type": "image_url", "image_url": {"url": "http://host/picture.png"}}
WORDS = {"type": "text", "text": "word " * 400}
KNOWN = 2000
"""Bytes of these words; four make a token before anything is learned."""


def chat(*parts: Any, **fields: Any) -> Generation:
    body = {"model": "m", "messages": [{"role": "user", "content": list(parts)}], **fields}
    return parse(Request("POST", CHAT_PATH, {}, json.dumps(body).encode()))


@pytest.mark.parametrize(
    ("request_", "tokens"),
    [
        pytest.param(chat({"type": "text", "text": "What is this?"}, IMAGE), 1500, id="an image"),
        pytest.param(chat(WORDS, IMAGE), 1900, id="an image beside a long text"),
        pytest.param(chat({"type": "text", "text": "Hi"}), 300, id="a template that says more"),
    ],
)
@on_uvloop
async def test_what_is_no_text_teaches_nothing_about_text(
    request_: Generation, tokens: int
) -> None:
    gauge = LengthGauge(cast(Peers, None), Metrics(), 1.0)
    before = await measured(gauge, chat(WORDS))
    gauge.learn(prompt_text(request_), tokens)
    assert await measured(gauge, chat(WORDS)) == before


@on_uvloop
async def test_a_text_teaches_how_many_bytes_make_a_token() -> None:
    gauge = LengthGauge(cast(Peers, None), Metrics(), 1.0)
    gauge.learn(prompt_text(chat(WORDS)), KNOWN // 5 + MESSAGE_TOKENS)
    assert await measured(gauge, chat(WORDS)) == KNOWN // 5 + MESSAGE_TOKENS


async def measured(gauge: LengthGauge, request: Generation) -> int:
    return await gauge.measure(request, prompt_text(request), None, None)
