"""Errors as clients of the OpenAI API expect them."""

import json
from typing import Final

INVALID_REQUEST: Final = "invalid_request_error"
NOT_FOUND: Final = "not_found_error"
UNAVAILABLE: Final = "service_unavailable_error"
UPSTREAM: Final = "upstream_error"
OVERLOADED: Final = "overloaded_error"
FORBIDDEN: Final = "permission_error"


class RequestError(Exception):
    """An answer that is an error: HTTP status, kind, and a message for the client's user."""

    def __init__(
        self, status: int, kind: str, message: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.retry_after = retry_after

    def body(self) -> bytes:
        """The JSON body."""
        return error_body(self.status, self.kind, self.message)

    def headers(self) -> list[tuple[str, str]]:
        """Headers beside the content type."""
        return [] if self.retry_after is None else [("retry-after", str(self.retry_after))]


def error_body(status: int, kind: str, message: str) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}`, the shape that OpenAI clients parse."""
    error = {"message": message, "type": kind, "param": None, "code": status}
    return json.dumps({"error": error}, separators=(",", ":")).encode()


def error_events(status: int, kind: str, message: str) -> bytes:
    """The in-band form, for a stream whose head is sent: one error event, then the end mark."""
    return b"data: " + error_body(status, kind, message) + b"\n\ndata: [DONE]\n\n"
