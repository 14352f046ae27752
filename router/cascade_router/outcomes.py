"""How requests, hand-overs, questions and rescues end: closed sets, label values of counters."""

from enum import StrEnum


class Outcome(StrEnum):
    """How a request of a client ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    FAILED = "failed"

    @classmethod
    def of(cls, status: int | None) -> "Outcome":
        """The outcome of a request that was answered with a whole answer; None without one."""
        if status is None:
            return cls.CANCELLED
        if status < 400:
            return cls.COMPLETED
        return cls.REJECTED if status < 500 else cls.FAILED


class HandoverOutcome(StrEnum):
    """How a hand-over ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """The request ended first."""
    REFUSED = "refused"
    """The target declined."""


class OfferOutcome(StrEnum):
    """What came of asking an instance for an offer."""

    IN_TIME = "in-time"
    LATE = "late"
    """The last known offer stood in for it."""
    NONE = "none"
    """It could not be asked, or takes no new sequences."""


class RescueOutcome(StrEnum):
    """Whether a stream went on after its engine or its target sidecar was lost."""

    COMPLETED = "completed"
    FAILED = "failed"
