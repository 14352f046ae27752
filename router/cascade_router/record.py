"""What is told of one request when it has ended: one record, filled on the way.

Times are seconds of the loop's clock, durations seconds, lengths tokens. Nothing in it was written
by a client or made by an engine, but for the request's id, which is plain: what reads the record
may show all of it.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cascade_policy.arrival import Purpose
from cascade_policy.pins import Pin
from cascade_router.endpoints import Member
from cascade_router.outcomes import Outcome

MAX_LEGS: Final = 64
"""Of which a record tells one by one; it counts all."""


class LegOutcome(StrEnum):
    """How a leg ended: a closed set."""

    COMPLETED = "completed"
    """The answer was complete with it; of a warm-up, the target is warm."""
    LEFT = "left"
    """The sequence moved on."""
    REFUSED = "refused"
    """The instance or its engine did not take it."""
    LOST = "lost"
    """It broke."""
    CANCELLED = "cancelled"
    """Nobody wanted it any more."""


@dataclass(slots=True)
class LegRecord:
    """One request to one instance."""

    purpose: Purpose
    instance: str
    stage: int
    length: int
    """Of the sequence when it began."""
    started: float
    ended: float | None = None
    tokens: int = 0
    """Made in it."""
    outcome: LegOutcome = LegOutcome.CANCELLED
    gap: float | None = None
    """Between the last token before it and its first, when it took the sequence over."""

    def end(self, outcome: LegOutcome, tokens: int, now: float) -> None:
        """It is over. Only the first call counts."""
        if self.ended is None:
            self.outcome, self.tokens, self.ended = outcome, tokens, now


@dataclass(slots=True)
class RequestRecord:
    """One request of a client."""

    method: str
    path: str | None
    """As it is served; None for what is not, since a client may have written anything."""
    request_id: str
    client: str
    """Address of the other end of the connection."""
    started: float
    streamed: bool = False
    status: int | None = None
    """None when no answer was begun."""
    outcome: Outcome = Outcome.CANCELLED
    stage: int | None = None
    """At which it entered."""
    member: Member | None = None
    """The instance of the last leg."""
    leg_count: int = 0
    """Legs, warm-ups not among them."""
    legs: list[LegRecord] = field(default_factory=list)
    """The first ones, warm-ups among them."""
    handovers: int = 0
    rescues: int = 0
    pin: Pin | None = None
    prompt_tokens: int | None = None
    prompt_estimated: bool = False
    output_tokens: int = 0
    cached_tokens: int | None = None
    """Of the prompt, that the first engine held."""
    waited: float = 0.0
    """For a place on an instance."""
    ttft: float | None = None
    tpot: float | None = None
    duration: float = 0.0
    trace: object = None
    """What tracing keeps of it."""

    def begin_leg(self, purpose: Purpose, member: Member, length: int, now: float) -> LegRecord:
        """A leg begins."""
        leg = LegRecord(purpose, member.name, member.stage, length, now)
        if purpose is not Purpose.WARM:
            self.leg_count += 1
            self.member = member
        if len(self.legs) < MAX_LEGS:
            self.legs.append(leg)
        return leg

    def end(self, outcome: Outcome, now: float) -> None:
        """The request is over."""
        self.outcome = outcome
        self.duration = now - self.started
