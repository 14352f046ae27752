"""Seams between legs whose ids hold special tokens: detokenisers write their names, streams leave
them out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from cascade_router.held import Seam, SeamTexts
from cascade_router.resumable import ResumableStream
from tests.router.core.test_resumable import new, texts_of
from tests.router.core.test_sse import completion

PIECES = [
    b"a", b"b", b"c", b"d", b" h", b" t", b"<b>", "é".encode(),
    b"\xe6", b"\x97", b"\xa5", b"<|end|>", b"<s>", b"[PAD]", b"[0]",
]  # fmt: skip
A, B, C, D, H, T, BOLD, E, DAY_1, DAY_2, DAY_3, END, START, PAD, ZERO = range(len(PIECES))
SPECIAL = {END, START, PAD}


@dataclass(frozen=True)
class Case:
    """A prompt; the ids until the leg was left, of which the first is a clean point and the others
    came in one event; and the first event of the next leg. What the client has seen of the former
    is what a stream has; `said` is what the engine of the latter gives out."""

    prompt: Sequence[int]
    left: Sequence[int]
    next: Sequence[int]
    said: str


def streamed(ids: Sequence[int]) -> str:
    """The text that a stream has given out after these ids: no part of a character at the end."""
    text = b"".join(PIECES[one] for one in ids if one not in SPECIAL).decode(errors="replace")
    return text.rstrip("\ufffd")


def detokenised(ids: bytes) -> str:
    """The answer of `/detokenize`."""
    return b"".join(PIECES[one] for one in json.loads(b"[" + ids + b"]")).decode(errors="replace")


def texts_at(seam: Seam) -> SeamTexts:
    return SeamTexts(*map(detokenised, (seam.anchor, seam.before, seam.ids)))


def at_seam(case: Case) -> tuple[ResumableStream, Seam]:
    """A stream whose next leg has brought its first text."""
    first, *others = case.left
    before = streamed([*case.prompt, first])
    stream = new()
    stream.feed(completion(PIECES[first].decode(), [first], prompt=list(case.prompt)))
    stream.feed(completion(streamed([*case.prompt, *case.left])[len(before) :], others))
    stream.settle()
    stream.begin_leg()
    assert stream.feed(completion(case.said, list(case.next))) == b""
    seam = stream.seam()
    assert seam is not None
    return stream, seam


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case([H], [A, B, END, C], [D], "d"), id="one among what was shown"),
        pytest.param(Case([H], [A, B, END, PAD], [D], "d"), id="two after what was shown"),
        pytest.param(Case([START, H], [A, B, C], [END, D], "d"), id="one in the next leg"),
        pytest.param(
            Case([START, H, T], [A, B, END, C, DAY_1, DAY_2], [DAY_3, D], " h tabc日d"),
            id="a leg that began inside a character, and so with its whole prompt",
        ),
        pytest.param(
            Case([START, H], [A, B, END, C, DAY_1], [DAY_2, DAY_3, END], "日"),
            id="a leg that began inside a character, of an engine that says no more than the rest",
        ),
        pytest.param(
            Case([H], [A, B, DAY_1, END, DAY_2, DAY_3, C], [D], "d"),
            id="one inside a character that is complete",
        ),
        pytest.param(
            Case([START, H], [A, B, DAY_1, END, DAY_2], [DAY_3, D], " hab日d"),
            id="one inside a character in which the leg began",
        ),
        pytest.param(
            Case([START, H, DAY_1, END, T], [A, B, DAY_1, END, DAY_2], [DAY_3], " h\ufffd tab日"),
            id="the same behind another broken one",
        ),
    ],
)
def test_a_seam_is_joined_as_if_there_were_no_special_tokens(case: Case) -> None:
    stream, seam = at_seam(case)
    names = stream.unsaid_names(texts_at(seam))
    assert names, "there is nothing to leave out"
    special = {b"%d" % PIECES.index(name.encode()) for name in names}
    given = texts_of(stream.join(texts_at(seam.without(special))))
    already = streamed([*case.prompt, *case.left])
    assert already + "".join(given) == streamed([*case.prompt, *case.left, *case.next])


def test_what_an_engine_gives_out_is_no_name() -> None:
    stream, seam = at_seam(Case([H], [A, BOLD, C], [ZERO, D], "[0]d"))
    assert stream.unsaid_names(texts_at(seam)) == []
    assert texts_of(stream.join(texts_at(seam))) == ["[0]d"]


def test_ids_that_are_left_out_leave_no_gap() -> None:
    assert Seam(b"1", b"1,2,1", b"1,2,1,11,3").without({b"1"}) == Seam(b"", b"2", b"2,11,3")
