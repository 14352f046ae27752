"""The paths that clients and peers can use: one table, the only one.

An engine serves far more to whoever reaches it, administration among it. A path is looked up as it
was written, neither decoded nor normalised, so each has one spelling; whatever is not in the table
does not exist.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cascade_policy.accounting import CHAT_PATH, COMPLETIONS_PATH
from cascade_router.errors import Dialect

RESPONSES_PATH: Final = "/v1/responses"
MESSAGES_PATH: Final = "/v1/messages"
COUNT_TOKENS_PATH: Final = "/v1/messages/count_tokens"
EMBEDDINGS_PATH: Final = "/v1/embeddings"
MODELS_PATH: Final = "/v1/models"
TOKENIZE_PATH: Final = "/tokenize"
DETOKENIZE_PATH: Final = "/detokenize"
HEALTH_PATH: Final = "/health"
READY_PATH: Final = "/ready"
METRICS_PATH: Final = "/metrics"
STATE_PATH: Final = "/debug/state"


class Serving(Enum):
    """Who answers a path."""

    PLACED = "placed"
    """The engine of the cheapest instance, by length and price."""
    ASKED = "asked"
    """This pod's own engine; another one while it is not well."""
    ROUTER = "router"
    """The sidecar itself."""


@dataclass(frozen=True, slots=True)
class ApiPath:
    """One path that is served."""

    path: str
    method: str
    """The only one; others are answered with 405."""
    serving: Serving
    streams: bool = False
    """Whether `stream: true` in the body asks for events."""
    dialect: Dialect = Dialect.OPENAI

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that a client may use: HEAD is GET without the body of the answer."""
        return (self.method, "HEAD") if self.method == "GET" else (self.method,)


API: Final = (
    ApiPath(COMPLETIONS_PATH, "POST", Serving.PLACED, streams=True),
    ApiPath(CHAT_PATH, "POST", Serving.PLACED, streams=True),
    ApiPath(RESPONSES_PATH, "POST", Serving.PLACED, streams=True, dialect=Dialect.RESPONSES),
    ApiPath(MESSAGES_PATH, "POST", Serving.PLACED, streams=True, dialect=Dialect.MESSAGES),
    ApiPath(COUNT_TOKENS_PATH, "POST", Serving.ASKED, dialect=Dialect.MESSAGES),
    ApiPath(EMBEDDINGS_PATH, "POST", Serving.PLACED),
    ApiPath(TOKENIZE_PATH, "POST", Serving.ASKED),
    ApiPath(DETOKENIZE_PATH, "POST", Serving.ASKED),
    ApiPath(MODELS_PATH, "GET", Serving.ASKED),
    ApiPath(HEALTH_PATH, "GET", Serving.ROUTER),
    ApiPath(READY_PATH, "GET", Serving.ROUTER),
    ApiPath(METRICS_PATH, "GET", Serving.ROUTER),
    ApiPath(STATE_PATH, "GET", Serving.ROUTER),
)
PATHS: Final = {served.path: served for served in API}
PEER_METHODS: Final = {one.path: one.method for one in API if one.serving is not Serving.ROUTER}
"""What a sidecar passes on to its engine for another one: path to method."""

_STORED: Final = re.compile(r"(GET|DELETE) /v1/responses/[^/]+(/input_items)?"
                            r"|POST /v1/responses/[^/]+/cancel")  # fmt: skip


def is_stored_response(method: str, path: str) -> bool:
    """Whether a request is for a response that was stored, which the Responses API knows of."""
    return _STORED.fullmatch(f"{method} {path}") is not None
