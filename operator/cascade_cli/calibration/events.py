"""Server-sent events of a streamed completion: how many tokens each one brings."""

import json
from dataclasses import dataclass
from typing import Any, Final

_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Event:
    """What one event says."""

    tokens: int | None
    """Of the answer so far, where the engine counts them."""
    brought: int
    """Tokens of this event, as far as it shows them."""
    cached: int
    """Prompt tokens that were found in the prefix cache."""
    error: str = ""


class Splitter:
    """Bytes in, complete lines out. A line ends at LF alone: text may hold Unicode's other ends."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The data fields that are complete now, without the end mark."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        fields = (line[len(_DATA) :].strip() for line in lines if line.startswith(_DATA))
        return [field for field in fields if field and field != _DONE]


def read_event(field: bytes) -> Event:
    """One data field. Raises ValueError if it is no event of a completion."""
    event = json.loads(field)
    if not isinstance(event, dict):
        raise ValueError("an event is no JSON object")
    if "error" in event:
        return Event(None, 0, 0, str(_message(event["error"])))
    choices = event.get("choices")
    if not isinstance(choices, list):
        raise ValueError("an event has no choices")
    usage = event.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    tokens = usage.get("completion_tokens")
    return Event(
        tokens=tokens if isinstance(tokens, int) else None,
        brought=_brought(choices[0]) if choices else 0,
        cached=int(details.get("cached_tokens") or 0),
    )


def _brought(choice: dict[str, Any]) -> int:
    ids = choice.get("token_ids")
    if isinstance(ids, list):
        return len(ids)
    # Text may be empty in the middle of a character, and is at the event that only ends.
    return 0 if choice.get("finish_reason") and not choice.get("text") else 1


def _message(error: object) -> object:
    return error.get("message", error) if isinstance(error, dict) else error
