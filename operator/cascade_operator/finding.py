"""What a pass has to say about one matter."""

from dataclasses import dataclass

from cascade_operator.reasons import Reason


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether something holds, why, and what that means, in words for the user."""

    holds: bool
    reason: Reason
    message: str
