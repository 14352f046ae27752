"""The simulated model: which token follows, as a pure function of every token before it.

The state is a running CRC-32 over the ids, so it costs the same at any length, and one lost,
doubled or changed id gives another continuation. Where the prompt ends and the output begins does
not enter: a sequence resumed elsewhere from its ids goes on exactly as it would have here.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from e2e.engine_simulator.vocabulary import (
    AWKWARD_IDS,
    END_OF_TEXT,
    FOLLOWERS,
    LEAD_IDS,
    SIZE,
    WORD_IDS,
    Detokeniser,
)

MEAN_NATURAL_LENGTH: Final = 205
"""Mean tokens until the model ends a text by itself."""
_TABLE_SIZE: Final = 4096
_SPREAD: Final = 0x9E3779B1
"""2^32 over the golden ratio: spreads neighbouring states over the whole table (Knuth)."""
_ID_BYTES: Final = [number.to_bytes(4, "little") for number in range(SIZE)]


def _table() -> list[int]:
    """One entry per draw: 0.5 % end of text, 6 % leads, 2 % awkward, words for the rest."""
    table = [END_OF_TEXT] * (_TABLE_SIZE // MEAN_NATURAL_LENGTH + 1)
    table += [LEAD_IDS[draw % len(LEAD_IDS)] for draw in range(_TABLE_SIZE * 6 // 100)]
    table += [AWKWARD_IDS[draw % len(AWKWARD_IDS)] for draw in range(_TABLE_SIZE * 2 // 100)]
    rest = _TABLE_SIZE - len(table)
    return table + [WORD_IDS[draw % len(WORD_IDS)] for draw in range(rest)]


_DRAWS: Final = _table()


def state_of(ids: Sequence[int], state: int = 0) -> int:
    """The state after `ids` (each below 2^32), continuing from `state`."""
    return crc32(array("I", ids), state)


def advance(state: int, number: int) -> int:
    """The state after one more id of the vocabulary."""
    return crc32(_ID_BYTES[number], state)


def next_token(state: int, last: int) -> int:
    """The id that follows a sequence with this state whose last id is `last`."""
    drawn = (state * _SPREAD & 0xFFFFFFFF) >> 7
    followers = FOLLOWERS.get(last)
    if followers is not None:
        return followers[drawn % len(followers)]
    return _DRAWS[drawn % _TABLE_SIZE]


def next_word(state: int) -> int:
    """The id that stands in for the end of text where that is not allowed yet (`min_tokens`)."""
    return WORD_IDS[((state * _SPREAD & 0xFFFFFFFF) >> 7) % len(WORD_IDS)]


def continuation(prompt: Sequence[int]) -> Iterator[int]:
    """What the model says after `prompt` if nothing stops it, without end."""
    state, last = state_of(prompt), prompt[-1]
    while True:
        last = next_token(state, last)
        state = advance(state, last)
        yield last


@dataclass(frozen=True, slots=True)
class Output:
    """An uncut answer: what a client must have received in the end."""

    ids: tuple[int, ...]
    text: str
    finish_reason: str
    """`stop` at an end of text, `length` at max_tokens."""


def expected_output(prompt: Sequence[int], max_tokens: int, *, ignore_eos: bool = False) -> Output:
    """The answer to `prompt` of at most `max_tokens` tokens, as one engine would give it.

    Text of a last incomplete character is missing, as it is in every stream.
    """
    detokeniser = Detokeniser(prompt)
    ids: list[int] = []
    texts: list[str] = []
    for number in continuation(prompt):
        ids.append(number)
        if number == END_OF_TEXT and not ignore_eos:
            return Output(tuple(ids), "".join(texts), "stop")
        texts.append(detokeniser.step(number))
        if len(ids) >= max_tokens:
            break
    return Output(tuple(ids), "".join(texts), "length")
