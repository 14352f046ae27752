"""The shape of a stream's chunks, which the first leg sets and all later ones keep.

Later legs are completions by ids, whatever the client asked for. Bytes in, bytes out.
"""

from typing import Final

import msgspec

from cascade_policy.accounting import usage
from cascade_router import sse

CHOICES: Final = b',"choices":['


class ClientShape:
    """What every chunk for one client begins with, and what its choices look like."""

    __slots__ = ("_chat", "_identity", "_wants_ids")

    def __init__(self, *, chat: bool, wants_ids: bool) -> None:
        self._chat = chat
        self._wants_ids = wants_ids
        self._identity = b""

    @property
    def known(self) -> bool:
        """Whether a first chunk has been seen."""
        return self._identity != b""

    def learn(self, event: bytes) -> None:
        """The first chunk: its id, time and model are those of all."""
        self._identity = event[: event.find(CHOICES)]

    def of_later(self, event: bytes, ids: bytes, member: tuple[int, int]) -> bytes:
        """A later leg's chunk in this shape; `member` is where its ids stand, from comma to
        bracket."""
        if self._chat:
            return self._chat_chunk(event, ids)
        start, end = member
        choices = event.find(CHOICES)
        if self._wants_ids:
            return self._identity + event[choices:]
        return self._identity + event[choices:start] + event[end:]

    def end_by_length(self) -> bytes:
        """The chunk that says that the limit is reached, for a leg that could not say so."""
        choice = b'{"index":0,"delta":{"content":""}' if self._chat else b'{"index":0,"text":""'
        choice += b',"logprobs":null,"finish_reason":"length","stop_reason":null}'
        return self._identity + CHOICES + choice + b"]}\n\n"

    def usage(self, prompt_tokens: int, tokens: int, event: bytes = b"") -> bytes:
        """The usage over all legs; `event` is what the last one says of its own."""
        counted = msgspec.json.encode(usage(prompt_tokens, tokens))
        name = sse.fingerprint_of(event)
        return self._identity + b',"choices":[],"usage":' + counted + name + b"}\n\n"

    def _chat_chunk(self, event: bytes, ids: bytes) -> bytes:
        finish = sse.finish_of(event)
        parts = [
            self._identity,
            b',"choices":[{"index":0,"delta":{"content":',
            sse.text_of(event),
            b'},"logprobs":null,"finish_reason":',
            finish,
        ]
        if finish != b"null":
            parts += (b',"stop_reason":', sse.stop_reason_of(event))
        if self._wants_ids:
            parts += (b',"token_ids":[', ids, b"]")
        parts.append(b"}]")
        if finish != b"null":
            parts.append(sse.fingerprint_of(event))
        parts.append(b"}\n\n")
        return b"".join(parts)
