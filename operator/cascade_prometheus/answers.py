"""Answers of a server over HTTP: bounded in size, never another server's, in few words."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

import requests

NOT_PROMETHEUS: Final = (
    "the answer is not that of a Prometheus: check that the address is of the server, without "
    "/api/v1"
)
_NOT_FOUND: Final = "check that the address is of the server, without /api/v1"
_REDIRECTED: Final = (
    "redirects are not followed, because credentials would go along: write the final address"
)


class AnswerError(Exception):
    """An answer that holds nothing to read."""


class StatusError(AnswerError):
    """An answer with another status than 200."""

    def __init__(self, code: int) -> None:
        phrase = f" {HTTPStatus(code).phrase}" if code in set(HTTPStatus) else ""
        super().__init__(f"HTTP {code}{phrase}")
        self.code = code

    @property
    def advice(self) -> str | None:
        """What to do about it, where that is the same for all who ask."""
        if 300 <= self.code < 400:
            return _REDIRECTED
        return _NOT_FOUND if self.code == HTTPStatus.NOT_FOUND else None


class TooLarge(AnswerError):
    """An answer of more bytes than it may have."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the answer is larger than {most >> 20} MiB")


def check(response: requests.Response, most: int) -> None:
    """For the hook that runs before redirects are followed, so that none is.

    Raises StatusError. Reading the body raises TooLarge beyond `most` bytes, unpacked.
    """
    response.raw = _Bounded(response.raw, most)
    if response.status_code != HTTPStatus.OK:
        response.close()
        raise StatusError(response.status_code)


class _Bounded:
    """The body of an answer, which must not fill the memory."""

    def __init__(self, raw: Any, most: int) -> None:
        self._raw = raw
        self._most = most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, size: int, **options: Any) -> Iterator[bytes]:
        """Its parts, unpacked."""
        read = 0
        for part in self._raw.stream(size, **options):
            read += len(part)
            if read > self._most:
                self._raw.close()
                raise TooLarge(self._most)
            yield part


def innermost(error: BaseException) -> BaseException:
    """The cause of an error; those around it are about connection pools."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def brief(error: Exception) -> str:
    """The cause in one line.

    Only the operating system's words are repeated: others quote the address or the answer.
    """
    cause = innermost(error)
    if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException):
        return (cause.strerror or str(cause))[:300]
    return type(cause).__name__
