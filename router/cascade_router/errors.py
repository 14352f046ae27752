"""Errors as clients of the API that they use expect them."""

import json
from collections.abc import Iterable
from enum import Enum
from typing import Final

INVALID_REQUEST: Final = "invalid_request_error"
NOT_FOUND: Final = "not_found_error"
UNAVAILABLE: Final = "service_unavailable_error"
UPSTREAM: Final = "upstream_error"
OVERLOADED: Final = "overloaded_error"
FORBIDDEN: Final = "permission_error"
UNAUTHORIZED: Final = "authentication_error"

_MESSAGES_KINDS: Final = {UNAVAILABLE: "overloaded_error", UPSTREAM: "api_error"}
"""What the Messages API calls a kind, where it has another name for it."""


class Dialect(Enum):
    """Whose clients use a path: it decides the shape of errors."""

    OPENAI = "openai"
    RESPONSES = "responses"
    """OpenAI's too, with typed events."""
    MESSAGES = "messages"
    """Anthropic's."""


class RequestError(Exception):
    """An answer that is an error: HTTP status, kind, and a message for the client's user."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        retry_after: int | None = None,
        extra: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.retry_after = retry_after
        self._extra = tuple(extra)

    def body(self, dialect: Dialect = Dialect.OPENAI) -> bytes:
        """The JSON body."""
        return error_body(self.status, self.kind, self.message, dialect)

    def headers(self) -> list[tuple[str, str]]:
        """Headers beside the content type."""
        retry = [] if self.retry_after is None else [("retry-after", str(self.retry_after))]
        return [*retry, *self._extra]


def leaving_error() -> RequestError:
    """What whoever still sends a sequence to an instance that leaves is told."""
    return RequestError(503, UNAVAILABLE, "this instance is leaving", retry_after=1)


def unwell_error() -> RequestError:
    """What whoever sends a sequence to an instance whose engine does not answer is told."""
    return RequestError(503, UNAVAILABLE, "this instance's engine is not well", retry_after=1)


def error_body(status: int, kind: str, message: str, dialect: Dialect = Dialect.OPENAI) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}`, the shape that OpenAI clients parse, or
    `{"type": "error", "error": {"type", "message"}}` for those of the Messages API."""
    if dialect is Dialect.MESSAGES:
        inner = {"type": _MESSAGES_KINDS.get(kind, kind), "message": message}
        return _json({"type": "error", "error": inner})
    return _json({"error": _openai(status, kind, message)})


def error_events(status: int, kind: str, message: str, dialect: Dialect = Dialect.OPENAI) -> bytes:
    """The in-band form, for a stream whose head is sent: what ends it in its dialect."""
    if dialect is Dialect.OPENAI:
        return b"data: " + error_body(status, kind, message) + b"\n\ndata: [DONE]\n\n"
    if dialect is Dialect.MESSAGES:
        return b"event: error\ndata: " + error_body(status, kind, message, dialect) + b"\n\n"
    # Typed clients read `code` and `message`; OpenAI's own raise what they find under `error`.
    flat = {"type": "error", "code": kind, "message": message, "param": None}
    event = {**flat, "error": _openai(status, kind, message)}
    return b"event: error\ndata: " + _json(event) + b"\n\n"


def _openai(status: int, kind: str, message: str) -> dict[str, object]:
    return {"message": message, "type": kind, "param": None, "code": status}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
