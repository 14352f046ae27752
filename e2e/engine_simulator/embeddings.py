"""`/v1/embeddings`: each input is computed once, and its vector is a hash of all its tokens.

A stock vLLM serves this path for embedding models and for no others; here it is always there.
"""

import math
import struct
import time
from base64 import b64encode
from collections.abc import Sequence
from secrets import token_hex
from typing import Any, Final
from zlib import crc32

from e2e.engine_simulator import sse
from e2e.engine_simulator.api_request import prompt_of
from e2e.engine_simulator.batch import Sampling
from e2e.engine_simulator.exchange import Exchange
from e2e.engine_simulator.next_token import state_of
from e2e.engine_simulator.refusals import JsonObject, RequestRefused

DIMENSIONS: Final = 16
ONE_STEP: Final = Sampling(max_tokens=1, ignore_eos=True)
"""The prompt is computed; the token that comes with it is not used."""


def vector(ids: Sequence[int], dimensions: int = DIMENSIONS) -> list[float]:
    """The embedding of a text with these ids: of length 1, exact in 32 bits."""
    state = state_of(ids)
    raw = [crc32(struct.pack("<I", place), state) / 2**31 - 1 for place in range(dimensions)]
    length = math.sqrt(sum(number * number for number in raw))
    return list(struct.unpack(f"<{dimensions}f", struct.pack(f"<{dimensions}f",
                *(number / length for number in raw))))  # fmt: skip


def inputs_of(body: JsonObject, max_length: int) -> list[list[int]]:
    """The ids of each input. Raises RequestRefused."""
    if "messages" in body:
        prompts = [prompt_of(body, chat=True)]
    else:
        given = body.get("input")
        several = isinstance(given, list) and any(isinstance(one, str | list) for one in given)
        prompts = [
            prompt_of({"prompt": one}, chat=False)
            for one in (given if several and isinstance(given, list) else [given])
        ]
    for prompt in prompts:
        if not prompt or len(prompt) > max_length:
            raise RequestRefused(
                f"each input must have between 1 and {max_length} tokens", parameter="input"
            )
    return prompts


class EmbeddingAnswer:
    """Waits until all inputs are computed."""

    def __init__(
        self, body: JsonObject, prompts: list[list[int]], exchange: Exchange, model: str
    ) -> None:
        dimensions = body.get("dimensions")
        if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
            raise RequestRefused("dimensions must be a whole number from 1")
        self._dimensions = dimensions or DIMENSIONS
        self._base64 = body.get("encoding_format") == "base64"
        self._prompts = prompts
        self._left = len(prompts)
        self._exchange = exchange
        self._model = model

    def token(self, number: int, finish_reason: str | None) -> None:  # noqa: ARG002
        """One input is computed."""
        self._left -= 1
        if not self._left:
            self._exchange.send_json(sse.json_bytes(self._body()))

    def _body(self) -> dict[str, Any]:
        tokens = sum(map(len, self._prompts))
        return {
            "id": f"embd-{token_hex(16)}",
            "object": "list",
            "created": int(time.time()),
            "model": self._model,
            "data": [
                {"index": index, "object": "embedding", "embedding": self._embedding(prompt)}
                for index, prompt in enumerate(self._prompts)
            ],
            "usage": {
                "prompt_tokens": tokens,
                "total_tokens": tokens,
                "completion_tokens": 0,
                "prompt_tokens_details": None,
            },
        }

    def _embedding(self, prompt: list[int]) -> list[float] | str:
        numbers = vector(prompt, self._dimensions)
        if not self._base64:
            return numbers
        return b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
