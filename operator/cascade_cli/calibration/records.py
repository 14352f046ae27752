"""What was seen of streams, before anything is made of it."""

from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stream:
    """One sequence as its client saw it."""

    prompt_tokens: int
    times: tuple[float, ...]
    """When events came, seconds of one clock, ascending. At least one."""
    counts: tuple[int, ...]
    """Tokens of the answer after each event, ascending; an event may bring several."""

    @property
    def first(self) -> float:
        """When its first token came: from then on it decodes."""
        return self.times[0]

    @property
    def is_watched(self) -> bool:
        """Whether it was read beyond its first event."""
        return len(self.times) > 1

    @property
    def points(self) -> list[tuple[float, int]]:
        """(second, tokens by then) of each event."""
        return list(zip(self.times, self.counts, strict=True))

    def tokens_at(self, moment: float) -> int:
        """Tokens of the answer that had come by `moment`; 0 before the first."""
        seen = bisect_right(self.times, moment)
        return self.counts[seen - 1] if seen else 0


@dataclass(frozen=True, slots=True)
class Rung:
    """A time in which all of `streams` decoded and nothing else ran."""

    name: str
    """Of its place in the design; repetitions share it."""
    start: float
    end: float
    streams: tuple[Stream, ...]
    """The first one is watched, and was there from the beginning."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A prompt that was computed while one other sequence, the clock, decoded."""

    name: str
    prompt_tokens: int
    cached_tokens: int
    """Of the prompt, found in the engine's prefix cache."""
    asked: float
    """When it was sent, and when its only token came: seconds."""
    answered: float
    clock: Stream
