"""Limits and usage over several legs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_policy.accounting import (
    CHAT_PATH,
    COMPLETIONS_PATH,
    Budget,
    budget,
    next_leg,
    usage,
)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        pytest.param(COMPLETIONS_PATH, {}, Budget(16, 0), id="a completion makes 16 by default"),
        pytest.param(COMPLETIONS_PATH, {"max_tokens": None}, Budget(16, 0), id="null is missing"),
        pytest.param(COMPLETIONS_PATH, {"max_tokens": 300}, Budget(300, 0), id="what it asks for"),
        pytest.param(COMPLETIONS_PATH, {"max_tokens": 5000}, Budget(900, 0), id="up to the end"),
        pytest.param(COMPLETIONS_PATH, {"max_tokens": 0}, Budget(0, 0), id="nothing at all"),
        pytest.param(
            COMPLETIONS_PATH, {"max_completion_tokens": 5}, Budget(16, 0),
            id="a completion knows no max_completion_tokens",
        ),
        pytest.param(CHAT_PATH, {}, Budget(900, 0), id="a chat makes what fits by default"),
        pytest.param(CHAT_PATH, {"max_tokens": 40}, Budget(40, 0), id="the older name"),
        pytest.param(
            CHAT_PATH, {"max_tokens": 40, "max_completion_tokens": 50}, Budget(50, 0),
            id="the newer name wins",
        ),
        pytest.param(
            CHAT_PATH, {"max_tokens": 40, "min_tokens": 10}, Budget(40, 10), id="a lower limit",
        ),
        pytest.param(CHAT_PATH, {"max_tokens": "40"}, Budget(900, 0), id="no whole number"),
        pytest.param(CHAT_PATH, {"max_tokens": True}, Budget(900, 0), id="a boolean"),
    ],
)  # fmt: skip
def test_what_a_client_allows(path: str, body: dict[str, Any], expected: Budget) -> None:
    assert budget(path, body, prompt_length=100, max_length=1000) == expected


def test_a_prompt_beyond_the_maximum_leaves_nothing() -> None:
    assert budget(CHAT_PATH, {}, prompt_length=1001, max_length=1000) == Budget(0, 0)


@given(
    most=st.integers(0, 500),
    least=st.integers(0, 500),
    legs=st.lists(st.integers(0, 120), max_size=12),
)
def test_the_legs_together_make_neither_more_nor_less_than_allowed(
    most: int, least: int, legs: list[int]
) -> None:
    whole = Budget(most, min(least, most))
    done = 0
    for made in legs:
        leg = next_leg(whole, done)
        if leg is None:
            assert done == most
            return
        assert leg.max_tokens >= 1
        assert 0 <= leg.min_tokens <= leg.max_tokens
        assert done + leg.max_tokens == whole.max_tokens
        assert done + leg.min_tokens == max(done, whole.min_tokens)
        done += min(made, leg.max_tokens)


def test_usage_is_counted_over_all_legs() -> None:
    assert usage(100, 23) == {"prompt_tokens": 100, "completion_tokens": 23, "total_tokens": 123}
