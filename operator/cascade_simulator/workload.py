"""What is sent to the cluster: requests with times and lengths."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Lengths in tokens, times in ms since the start of the run."""

    arrival_ms: float
    prompt: int
    output: int
    """Tokens it will emit, at least 1. Policies must not look at it, unless they are oracles."""
    blocks: tuple[int, ...] = ()
    """What the prompt consists of, a number per `Workload.block_tokens`; empty when unknown. May go
    on into the answer, where a later prompt contains it."""
    session: int | None = None
    """The conversation it belongs to, for stickiness."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests in order of arrival, and where they come from."""

    name: str
    requests: tuple[Request, ...]
    block_tokens: int = 512
    """Prompt tokens that one entry of `Request.blocks` stands for."""

    @property
    def duration_ms(self) -> float:
        """Time from the start to the last arrival."""
        return self.requests[-1].arrival_ms if self.requests else 0.0
