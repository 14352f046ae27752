"""Ids of a stream: what goes in as JSON comes out as JSON."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_router.token_ids import inside, take, token_ids

IDS = st.lists(st.integers(0, 2**32 - 1), max_size=40)


@given(IDS, IDS, st.integers(0, 80))
def test_lists_taken_one_after_another_are_one_list(
    first: list[int], then: list[int], at: int
) -> None:
    ids = token_ids()
    for some in (first, then):
        if some:
            take(ids, b",".join(b"%d" % one for one in some))
    assert list(ids) == first + then
    assert inside(ids) == b",".join(b"%d" % one for one in first + then)
    assert inside(ids, at) == inside(token_ids((first + then)[at:]))
    assert inside(ids, 0, at) == inside(token_ids((first + then)[:at]))


@pytest.mark.parametrize("raw", [b"", b"1,", b"1.5", b"null", b"-1", b"7,4294967296"])
def test_what_is_no_id_is_refused_whole(raw: bytes) -> None:
    ids = token_ids([5])
    with pytest.raises(ValueError, match=r"id|int"):
        take(ids, raw)
    assert list(ids) == [5]
