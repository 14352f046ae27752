"""The first difference between two answers, in words. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from e2e.continuity_suite.answer import Answer, Choice

_BEFORE: Final = 6
"""Characters shown before the first one that differs."""
_SHOWN: Final = 24
_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


def first_difference(expected: Answer, got: Answer) -> str | None:
    """What a client of `got` would first notice; None where nothing differs."""
    if got.lost is not None:
        return f"{got.lost}, after {_progress(expected, got)}"
    if expected.status != got.status:
        return f"status: expected {expected.status}, got {got.status}{_said(got)}"
    if (expected.error is None) != (got.error is None):
        wanted = "no error" if expected.error is None else "an error"
        return f"expected {wanted}, got {_progress(expected, got)}{_said(got)}"
    if expected.error is not None:
        return None if (got.error or {}).get("message") else "the error has no message"
    if sorted(expected.choices) != sorted(got.choices):
        return f"choices: expected {sorted(expected.choices)}, got {sorted(got.choices)}"
    for index in sorted(expected.choices):
        found = _in_choice(expected.choices[index], got.choices[index])
        if found is not None:
            return found if len(expected.choices) == 1 else f"choice {index}: {found}"
    return _around(expected, got) or (got.faults[0] if got.faults else None)


def _in_choice(expected: Choice, got: Choice) -> str | None:
    if expected.ids != got.ids:
        return _items("token", expected.ids, got.ids)
    if expected.text != got.text:
        return _text("character", expected.text, got.text)
    if expected.finish != got.finish:
        return f"finish_reason: expected {expected.finish}, got {got.finish}"
    if expected.stop_reason != got.stop_reason:
        return f"stop_reason: expected {expected.stop_reason!r}, got {got.stop_reason!r}"
    if expected.calls != got.calls:
        return _text("tool calls, character", str(expected.calls), str(got.calls))
    if expected.prompt_ids != got.prompt_ids:
        return _items("prompt token", expected.prompt_ids or [], got.prompt_ids or [])
    for name in sorted({*expected.logprobs, *got.logprobs}):
        one, other = expected.logprobs.get(name, []), got.logprobs.get(name, [])
        if one != other:
            return _items(f"logprobs.{name}", one, other)
    if expected.other != got.other:
        return _text("other parts, character", str(expected.other), str(got.other))
    return None


def _around(expected: Answer, got: Answer) -> str | None:
    if (expected.usage is None) != (got.usage is None):
        return f"usage: expected {expected.usage}, got {got.usage}"
    for name in _COUNTS:
        one, other = (expected.usage or {}).get(name), (got.usage or {}).get(name)
        if one != other:
            return f"usage.{name}: expected {one}, got {other}"
    if bool(expected.counted) != bool(got.counted):
        return f"usage in every chunk: expected {bool(expected.counted)}, got {bool(got.counted)}"
    if got.counted != sorted(got.counted) or expected.counted[-1:] != got.counted[-1:]:
        return f"usage in every chunk: expected up to {expected.counted[-1:]}, got {got.counted}"
    if expected.fingerprint != got.fingerprint:
        return f"system_fingerprint: expected {expected.fingerprint!r}, got {got.fingerprint!r}"
    return None


def _items(what: str, expected: Sequence[Any], got: Sequence[Any]) -> str:
    place = _place(expected, got)
    one = expected[place] if place < len(expected) else "the end"
    other = got[place] if place < len(got) else "the end"
    return f"{what} {place}: expected {one}, got {other}"


def _text(what: str, expected: str, got: str) -> str:
    place = _place(expected, got)
    start = max(0, place - _BEFORE)
    return f"{what} {place}: expected {_shown(expected, start)}, got {_shown(got, start)}"


def _shown(text: str, start: int) -> str:
    piece = text[start : start + _SHOWN]
    return ascii(piece) if piece else "the end"


def _place(expected: Sequence[Any], got: Sequence[Any]) -> int:
    both = enumerate(zip(expected, got, strict=False))
    different = (place for place, (one, other) in both if one != other)
    return next(different, min(len(expected), len(got)))


def _said(got: Answer) -> str:
    message = (got.error or {}).get("message")
    return f" ({str(message)[:90]})" if message else ""


def _progress(expected: Answer, got: Answer) -> str:
    wanted = sum(len(choice.text) for choice in expected.choices.values())
    there = sum(len(choice.text) for choice in got.choices.values())
    return f"{there} of {wanted} characters"
