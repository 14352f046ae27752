"""Prebuilt pieces of server-sent events: a token's event is a join, not a JSON encoding."""

import json
from collections.abc import Iterable
from typing import Final

from e2e.engine_simulator.vocabulary import COMPLETE_TEXT, SIZE

_SMALL: Final = 4096
_CHUNK_HEADS: Final = [b"%x\r\n" % length for length in range(_SMALL)]
ID_TEXT: Final = [b"%d" % number for number in range(SIZE)]
DONE: Final = b"data: [DONE]\n\n"
_REASON: Final = b',"logprobs":null,"finish_reason":'
LAST_CHUNK: Final = b"0\r\n\r\n"


def json_text(text: str) -> bytes:
    """The inside of a JSON string: raw UTF-8, only what JSON demands is escaped."""
    return json.dumps(text, ensure_ascii=False)[1:-1].encode()


JSON_TEXT: Final = [json_text(text) if text is not None else b"" for text in COMPLETE_TEXT]
"""Of each id whose text is complete by itself."""


def json_bytes(value: object) -> bytes:
    """Compact JSON as the engine writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def ids_json(ids: Iterable[int]) -> bytes:
    """A JSON list of ids."""
    return b"[" + b",".join([ID_TEXT[number] for number in ids]) + b"]"


def chunk(payload: bytes) -> bytes:
    """`payload` as one chunk of a chunked HTTP body."""
    length = len(payload)
    head = _CHUNK_HEADS[length] if length < _SMALL else b"%x\r\n" % length
    return head + payload + b"\r\n"


class EventTemplate:
    """The constant parts of the events of one choice of a stream.

    `data: ID OBJECT CREATED MODEL choices[{... text ... finish_reason ... token_ids ...}] usage`.
    """

    __slots__ = ("_after_reason", "_chat", "_choice", "_open", "_silent", "_text_end", "head")

    def __init__(
        self,
        *,
        chat: bool,
        identity: str,
        created: int,
        model: str,
        index: int = 0,
        tool: str | None = None,
    ) -> None:
        kind = "chat.completion.chunk" if chat else "text_completion"
        fields = {"id": identity, "object": kind, "created": created, "model": model}
        self._chat = chat
        self.head = b"data: " + json_bytes(fields)[:-1] + b',"choices":['
        """The beginning of every event of the stream, up to its choices."""
        text, self._text_end = b'"text":"', b'"'
        if chat:
            text, self._text_end = b'"delta":{"content":"', b'"}'
        if tool is not None:
            text = b'"delta":{"tool_calls":[{"index":0,"function":{"arguments":"'
            self._text_end = b'"}}]}'
        self._choice = self.head + b'{"index":%d,' % index
        self._open = self._choice + text
        self._silent = (self._choice + b'"delta":{', b"}") if chat and tool is None else None
        self._after_reason = b"" if chat else b',"stop_reason":null,"prompt_token_ids":null'

    def _around(self, text: bytes) -> tuple[bytes, bytes]:
        """What stands before and after a text; a chat has none where it is empty."""
        if self._silent is not None and not text:
            return self._silent
        return self._open, self._text_end

    def token(self, text: bytes, ids: bytes, usage: bytes) -> bytes:
        """The chunk with the event of tokens in mid-stream; `text` is inside-of-JSON."""
        opening, closing = self._around(text)
        payload = b"".join(
            (
                opening, text, closing, _REASON, b"null", self._after_reason,
                b',"token_ids":', ids, b"}]", usage, b"}\n\n",
            )
        )  # fmt: skip
        return chunk(payload)

    def special(
        self,
        text: bytes,
        ids: bytes,
        rest: bytes,
        *,
        finish: str | None,
        stop_reason: int | str | None,
        prompt_ids: bytes,
        logprobs: bytes = b"null",
    ) -> bytes:
        """The chunk with an event of tokens that is not plain; `rest` follows its choices."""
        if self._chat:
            extra = b',"stop_reason":' + json_bytes(stop_reason) if finish else b""
        else:
            extra = b',"stop_reason":' + json_bytes(stop_reason)
            extra += b',"prompt_token_ids":' + prompt_ids
        opening, closing = self._around(text)
        payload = b"".join(
            (
                opening, text, closing, b',"logprobs":', logprobs,
                b',"finish_reason":', json_bytes(finish), extra,
                b',"token_ids":', ids, b"}]", rest, b"}\n\n",
            )
        )  # fmt: skip
        return chunk(payload)

    def role(self, prompt_ids: bytes, usage: bytes) -> bytes:
        """The chunk with the event that opens a chat answer."""
        choice = b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
        prompt = b',"prompt_token_ids":' + prompt_ids + b',"prompt_text":null'
        return chunk(b"".join((self._choice, choice, usage, prompt, b"}\n\n")))

    def call(self, identity: str, name: str, usage: bytes) -> bytes:
        """The chunk with the event that opens a call of the function `name`."""
        function = {"name": name, "arguments": ""}
        call = {"id": identity, "type": "function", "index": 0, "function": function}
        delta = b'"delta":' + json_bytes({"tool_calls": [call]})
        choice = delta + b',"logprobs":null,"finish_reason":null,"token_ids":null}]'
        return chunk(b"".join((self._choice, choice, usage, b"}\n\n")))
