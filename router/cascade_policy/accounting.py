"""The arithmetic of a generation that is made in several legs, one per instance it visits.

A leg is one request to one engine. The client sees one answer: the limits it gave hold for the sum
of all legs, and its usage is counted over them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

COMPLETIONS_PATH: Final = "/v1/completions"
CHAT_PATH: Final = "/v1/chat/completions"
COMPLETIONS_DEFAULT_MAX_TOKENS: Final = 16
"""What the completions API means by a missing or null `max_tokens`."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Output tokens that may (`max_tokens`) and must (`min_tokens`) still be made."""

    max_tokens: int
    min_tokens: int


def budget(path: str, body: Mapping[str, Any], prompt_length: int, max_length: int) -> Budget:
    """What the client allows: its own limits, never beyond the model's `max_length` tokens.

    Completions default to 16 tokens, chats to what is left of the context window. In a chat
    `max_completion_tokens` wins over the older `max_tokens`. A limit that is no whole number counts
    as missing: the engine refuses such a request itself.
    """
    room = max(0, max_length - prompt_length)
    limit = _whole(body.get("max_tokens"))
    if path == CHAT_PATH:
        completion_limit = _whole(body.get("max_completion_tokens"))
        limit = limit if completion_limit is None else completion_limit
        limit = room if limit is None else limit
    elif limit is None:
        limit = COMPLETIONS_DEFAULT_MAX_TOKENS
    most = max(0, min(limit, room))
    return Budget(most, min(most, _whole(body.get("min_tokens")) or 0))


def next_leg(budget: Budget, done: int) -> Budget | None:
    """The limits of the leg after `done` tokens; None when nothing may be made any more.

    The limit of a leg is never 0: engines refuse it.
    """
    left = budget.max_tokens - done
    if left <= 0:
        return None
    return Budget(left, max(0, budget.min_tokens - done))


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """The `usage` object of an answer made in several legs.

    It has no `prompt_tokens_details`: the legs' own numbers of cached tokens mean the hand-over,
    not the client's prompt.
    """
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value
