"""Faults are told by what they are and where they happened, never by what was in them."""

import asyncio
import logging

import pytest
import uvloop

from cascade_router import faults

MARK = "tell-nobody"


def inner(text: str) -> int:
    return int(text)


def outer(text: str) -> None:
    try:
        inner(text)
    except ValueError as error:
        raise KeyError(text) from error


def test_a_fault_is_told_without_its_words() -> None:
    with pytest.raises(KeyError) as caught:
        outer(MARK)
    text = faults.told(caught.value)
    assert text.startswith("KeyError at test_faults.py:")
    assert " outer < test_faults.py:" in text
    assert text.endswith(", while dealing with ValueError")
    assert MARK not in text


def test_a_fault_that_was_never_raised_has_no_place() -> None:
    assert faults.told(ValueError(MARK)) == "ValueError"
    assert faults.told(None) == "an unknown fault"


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_callback_that_fails_is_not_logged_with_what_it_was_called_with(
    run: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(faults.handle)
        loop.call_soon(inner, MARK)
        loop.call_exception_handler({"message": "Task was destroyed but it is pending!"})
        await asyncio.sleep(0.01)

    caplog.set_level(logging.DEBUG)
    run(fail())  # type: ignore[operator]
    assert "a fault that nobody caught: ValueError at test_faults.py" in caplog.text
    assert "Task was destroyed" in caplog.text
    assert MARK not in caplog.text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(None, "the connection broke", id="the other side closed"),
        pytest.param(ConnectionResetError(104, MARK), "Connection reset by peer", id="a reset"),
        pytest.param(TimeoutError(), "TimeoutError", id="a time-out"),
        pytest.param(ValueError(MARK), "ValueError", id="a fault of the router"),
    ],
)
def test_why_a_connection_broke_is_told_without_anybodys_words(
    error: BaseException | None, words: str
) -> None:
    assert faults.why_broken(error) == words
