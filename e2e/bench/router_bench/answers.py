"""The answers of the bench's engine, in the shape of vLLM 0.32: pieces that are made once."""

import json
from functools import cache
from time import monotonic_ns
from typing import Any, Final, Protocol

from e2e.bench.router_bench import wire

CREATED: Final = 1_700_000_000
TAILS: Final = 1024
TOKEN_IDS: Final = [10_000 + 7919 * number % 90_000 for number in range(TAILS)]
"""Five digits each, as most ids of a vocabulary of 128,000 have."""
PROMPT_IDS: Final = ",".join(str(number) for number in TOKEN_IDS[: wire.PROMPT_TOKENS]).encode()
STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)

_LAST_CHUNKS: Final = b"e\r\n" + wire.DONE + b"\n\n\r\n0\r\n\r\n"
_ID_TAILS: Final = [b',"token_ids":[%d]}]}\n\n\r\n' % number for number in TOKEN_IDS]
_PLAIN_TAILS: Final = [b"}]}\n\n\r\n"] * TAILS


class Client(Protocol):
    """Whoever a stream is sent to."""

    def send_now(self, data: bytes) -> None:
        """Send at once."""

    def end_stream(self, data: bytes) -> None:
        """Send the end of the stream."""


class Stream:
    """One answer in events."""

    def __init__(self, client: Client, identity: bytes, limit: int, ids: bool) -> None:
        self.sent = 0
        self.limit = limit
        self._client = client
        self._identity = identity
        self.with_ids = ids
        after = _after_text(b"null")
        self._tails = _ID_TAILS if ids else _PLAIN_TAILS
        length = len(_event_head(identity)) + wire.STAMP_BYTES + len(after)
        length += len(self._tails[0]) - len(b"\r\n")
        self._before = b"%x\r\n" % length + _event_head(identity) + wire.STAMP + after

    def event(self) -> bytes:
        """The next event in mid-stream, as a chunk."""
        number = self.sent
        self.sent = number + 1
        stamp = monotonic_ns() // 1000 % wire.MICROSECONDS
        return self._before % (number % wire.NUMBERS, stamp) + self._tails[number % TAILS]

    def first(self) -> bytes:
        """The first event: it tells the prompt's ids where ids were asked for."""
        return self._special(b"null", PROMPT_IDS if self.with_ids else None)

    def last(self, finish: bytes) -> bytes:
        """The last event and what ends the answer."""
        return self._special(finish, None) + _LAST_CHUNKS

    def step(self) -> None:
        """Send the next event."""
        if self.sent + 1 >= self.limit:
            self.end(b'"length"')
        else:
            self._client.send_now(self.event())

    def end(self, finish: bytes) -> None:
        """Send the last event."""
        self._client.end_stream(self.last(finish))

    def _special(self, finish: bytes, prompt_ids: bytes | None) -> bytes:
        number = self.sent
        self.sent = number + 1
        payload = _event_head(self._identity)
        payload += wire.STAMP % (number % wire.NUMBERS, wire.now_us()) + _after_text(finish)
        if prompt_ids is not None:
            payload += b',"prompt_token_ids":[%b]' % prompt_ids
        if self.with_ids:
            payload += b',"token_ids":[%d]' % TOKEN_IDS[number % TAILS]
        payload += b"}]}\n\n"
        return b"%x\r\n%b\r\n" % (len(payload), payload)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


MODELS: Final = _json(
    {
        "object": "list",
        "data": [
            {
                "id": wire.MODEL,
                "object": "model",
                "created": CREATED,
                "owned_by": "vllm",
                "root": wire.MODEL,
                "parent": None,
                "max_model_len": 131072,
            }
        ],
    }
)


@cache
def whole_answer(tokens: int) -> tuple[bytes, bytes]:
    """What stands before and after the id in an unstreamed answer."""
    choice = {"index": 0, "text": " word" * tokens, "logprobs": None}
    answer = {
        "object": "text_completion",
        "created": CREATED,
        "model": wire.MODEL,
        "choices": [{**choice, "finish_reason": "length", "stop_reason": None}],
        "usage": {
            "prompt_tokens": wire.PROMPT_TOKENS,
            "total_tokens": wire.PROMPT_TOKENS + tokens,
            "completion_tokens": tokens,
        },
    }
    return b'{"id":"', b'",' + _json(answer)[1:]


def _event_head(identity: bytes) -> bytes:
    return (
        b'data: {"id":"%b","object":"text_completion","created":%d,"model":"%b",'
        b'"choices":[{"index":0,"text":"' % (identity, CREATED, wire.MODEL.encode())
    )


def _after_text(finish: bytes) -> bytes:
    return b'","logprobs":null,"finish_reason":%b,"stop_reason":null' % finish
