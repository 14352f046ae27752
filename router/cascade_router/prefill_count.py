"""Prefill of prompts, as the planner needs it: tokens, work, and its square."""

from dataclasses import dataclass


@dataclass(slots=True)
class PrefillCount:
    """Prefill of the prompts of one length bucket."""

    tokens: int = 0
    seconds: float = 0.0
    squares: float = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """One prompt more."""
        self.tokens += tokens
        self.seconds += seconds
        self.squares += seconds * seconds

    def tokens_of(self) -> float:
        """Computed tokens."""
        return self.tokens

    def seconds_of(self) -> float:
        """Work, by the engine model."""
        return self.seconds

    def squares_of(self) -> float:
        """Sum over requests of their squared work."""
        return self.squares
