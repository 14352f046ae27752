"""What went wrong in a pass, as the answer to one question: when is the next try worth it?"""


class PassError(Exception):
    """Ends the pass; `reason` and `message` go into the Ready condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.cuts_off = False
        """Whether clients reach no instance because of it, however many are ready."""


class Stalled(PassError):
    """Nothing helps until the spec changes."""


class Waiting(PassError):
    """Worth another try after `seconds`."""

    def __init__(self, reason: str, message: str, seconds: float) -> None:
        super().__init__(reason, message)
        self.seconds = seconds


class Retry(PassError):
    """Something of the cluster failed; try again with growing pauses."""
