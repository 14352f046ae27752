"""What request fields make of the model's next token, as far as a hand-over could be seen by it.

Each rule depends on what it depends on in vLLM. A seed counts the tokens of this request alone, so
its sequence begins again where a request is resumed; presence and frequency count the output only,
and what was output before is prompt after a resumption; a grammar begins again. Bias, bans and the
repetition penalty look at no such thing, and survive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from e2e.engine_simulator.next_token import advance, next_token
from e2e.engine_simulator.vocabulary import END_OF_TEXT, FOLLOWERS

_REDRAWS: Final = 12
"""Draws until a token that nothing speaks against is given up."""
_FORCING_BIAS: Final = 50.0
"""From here on a biased token is always chosen; below its negative it never is."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """Fields of a request that change which token comes next."""

    seed: int | None = None
    """None while sampling is greedy; without a seed, sampling is greedy too, so that every answer
    can be checked."""
    penalises_output: bool = False
    penalises_all: bool = False
    banned: frozenset[int] = frozenset()
    allowed: tuple[int, ...] = ()
    forced: int | None = None
    script: tuple[int, ...] = ()
    """What a grammar makes the model say, before it ends."""


class Sampler:
    """Chooses the tokens of one request."""

    __slots__ = ("_seen", "_wishes")

    def __init__(self, wishes: Wishes, prompt: Sequence[int]) -> None:
        self._wishes = wishes
        self._seen = set(prompt) if wishes.penalises_all else set[int]()

    def choose(self, state: int, last: int, generated: int) -> int:
        """The token after `generated` tokens of this request."""
        wishes = self._wishes
        if wishes.script:
            return wishes.script[generated] if generated < len(wishes.script) else END_OF_TEXT
        if wishes.forced is not None:
            return wishes.forced
        if wishes.seed is not None:
            state ^= crc32(b"%d/%d" % (wishes.seed, generated))
        if wishes.allowed:
            return wishes.allowed[state % len(wishes.allowed)]
        number = self._draw(state, last)
        if wishes.penalises_output or wishes.penalises_all:
            self._seen.add(number)
        return number

    def _draw(self, state: int, last: int) -> int:
        number = next_token(state, last)
        if last in FOLLOWERS:
            return number  # A character that was begun is completed.
        for _ in range(_REDRAWS):
            if number not in self._seen and number not in self._wishes.banned:
                break
            state = advance(state, number)
            number = next_token(state, last)
        return number


def bias_of(biases: Mapping[int, float]) -> tuple[int | None, frozenset[int]]:
    """(the token that a `logit_bias` forces, the tokens that it bans)."""
    forced = max(biases, key=biases.__getitem__, default=None)
    if forced is not None and biases[forced] < _FORCING_BIAS:
        forced = None
    banned = frozenset(number for number, bias in biases.items() if bias <= -_FORCING_BIAS)
    return forced, banned
