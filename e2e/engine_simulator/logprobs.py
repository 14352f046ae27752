"""Log probabilities of the simulated model: numbers that depend on all tokens before, as its
tokens do, in the shapes of both endpoints."""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

from e2e.engine_simulator.vocabulary import PIECES, WORD_IDS

Drawn = tuple[int, int]
"""A token and the state after it."""


def of_completion(drawn: Sequence[Drawn], most: int, offset: int) -> dict[str, Any]:
    """The `logprobs` of a completions choice; `offset` is where its text begins."""
    tokens = [_token(number) for number, _ in drawn]
    offsets = [offset + sum(map(len, tokens[:place])) for place in range(len(tokens))]
    return {
        "text_offset": offsets,
        "token_logprobs": [_logprob(number, state) for number, state in drawn],
        "tokens": tokens,
        "top_logprobs": [
            {_token(other): _logprob(other, state) for other in _top(number, state, most)}
            for number, state in drawn
        ],
    }


def of_chat(drawn: Sequence[Drawn], most: int) -> dict[str, Any]:
    """The `logprobs` of a chat choice."""
    return {
        "content": [
            {
                **_entry(number, state),
                "top_logprobs": [_entry(other, state) for other in _top(number, state, most)],
            }
            for number, state in drawn
        ]
    }


def _entry(number: int, state: int) -> dict[str, Any]:
    token = _token(number)
    logprob = _logprob(number, state)
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _top(number: int, state: int, most: int) -> list[int]:
    """The `most` likeliest tokens, the chosen one first."""
    others = [WORD_IDS[(state + 7 * rank) % len(WORD_IDS)] for rank in range(most)]
    return list(dict.fromkeys((number, *others)))[: max(most, 1)]


def _logprob(number: int, state: int) -> float:
    return -(crc32(b"%d" % number, state) % 4096) / 1024


def _token(number: int) -> str:
    return PIECES[number].decode("utf-8", "replace")
