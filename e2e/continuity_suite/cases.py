"""What a case is: data, judged by `judge`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

COMPLETIONS: Final = "/v1/completions"
CHAT: Final = "/v1/chat/completions"


class How(Enum):
    """What is done with the requests of a case, and what they are compared with."""

    STREAMED = "streamed, as the engine streams it"
    WHOLE = "unstreamed, as the engine answers it"
    BOTH = "streamed, as the same server answers it unstreamed"
    SLOW = "streamed to a client that reads slowly"
    LEAVE = "left by the client; engines must stop"
    STRIKE = "with a fault of one engine after another"
    KILL = "with one engine killed"


@dataclass(frozen=True)
class Ask:
    """One request; `model` and `stream` are added to its fields."""

    path: str
    fields: Mapping[str, Any]

    @property
    def chat(self) -> bool:
        """Whether it goes to the chat endpoint."""
        return self.path == CHAT


@dataclass(frozen=True)
class Case:
    """A sentence that a router makes true or false."""

    group: str
    name: str
    asks: tuple[Ask, ...]
    how: How = How.STREAMED
    pin: str | None = None
    """The reason that our router gives for not handing the request over; "" where it must give
    none, None where it is not looked at."""
    refused: bool = False
    """Whether the engine refuses such requests, and the router shall do the same."""
    leave_after: tuple[int, ...] = ()
    """Events after which the client leaves, one for each request; 0: before any answer."""
    faults: tuple[Mapping[str, Any], ...] = field(default=())
    """Of the engine simulator; each strikes once."""

    @property
    def alone(self) -> bool:
        """Whether nothing else may run meanwhile."""
        return self.how in (How.LEAVE, How.STRIKE, How.KILL)
