"""Where clients come in: by its head alone a request is let in or turned away.

The key opens this door and no other. It is taken off the request that is let in, so that neither an
engine nor another sidecar ever sees it.
"""

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Final

from cascade_router.api import HEALTH_PATH, METRICS_PATH, PATHS, READY_PATH
from cascade_router.api_keys import ApiKeys
from cascade_router.errors import UNAUTHORIZED, Dialect, RequestError

AUTHORIZATION: Final = "authorization"
API_KEY: Final = "x-api-key"
_OPEN: Final = frozenset({HEALTH_PATH, READY_PATH})
"""What the kubelet asks, which has no key."""
_SCHEME: Final = "bearer"


class Gate:
    """Lets clients in that hold an API key; all of them where none is asked for."""

    def __init__(
        self, keys: ApiKeys, loop: asyncio.AbstractEventLoop, *, guards_metrics: bool = False
    ) -> None:
        self._keys = keys
        self._loop = loop
        self._open = _OPEN if guards_metrics else _OPEN | {METRICS_PATH}

    @property
    def asks(self) -> bool:
        """Whether a key is asked for."""
        return self._keys.required

    @property
    def count(self) -> int:
        """Keys that are good."""
        return self._keys.count(self._loop.time())

    @property
    def shut(self) -> bool:
        """Whether a key is asked for and there is none."""
        return self._keys.required and self.count == 0

    def refusal(self, path: str, headers: Mapping[str, str]) -> RequestError | None:
        """Why a request is turned away, or None when it may come in."""
        if not self._keys.required or path in self._open:
            return None
        sent = credentials(path, headers)
        if self._keys.accept(sent, self._loop.time()):
            return None
        return _unauthorized(path, sent != ())

    def strip(self, headers: MutableMapping[str, str]) -> None:
        """Take the key off a request that was let in. Where none is asked for, `authorization` may
        be the engine's own and stays."""
        headers.pop(API_KEY, None)
        if self._keys.required:
            headers.pop(AUTHORIZATION, None)


def credentials(path: str, headers: Mapping[str, str]) -> tuple[str, ...]:
    """What a client sends as its key: a bearer token, or what clients of the Messages API send."""
    scheme, _, token = headers.get(AUTHORIZATION, "").partition(" ")
    sent = (token.strip(),) if scheme.lower() == _SCHEME else ()
    served = PATHS.get(path)
    if served is not None and served.dialect is Dialect.MESSAGES and API_KEY in headers:
        sent = (*sent, headers[API_KEY].strip())
    return tuple(text for text in sent if text)


def _unauthorized(path: str, sent: bool) -> RequestError:
    served = PATHS.get(path)
    messages = served is not None and served.dialect is Dialect.MESSAGES
    way = "`x-api-key: KEY` or " if messages else ""
    what = "the API key is not valid" if sent else "an API key is needed"
    return RequestError(
        401,
        UNAUTHORIZED,
        f"{what}; send one as {way}`Authorization: Bearer KEY`",
        extra=[("www-authenticate", "Bearer")],
    )
