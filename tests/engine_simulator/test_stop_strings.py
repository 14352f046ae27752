"""Stop strings are found wherever the text is cut into pieces."""

from hypothesis import given
from hypothesis import strategies as st

from e2e.engine_simulator.stop_strings import StopFinder


@given(
    st.lists(st.text("ab", max_size=4), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3),
    st.booleans(),
)
def test_the_text_ends_at_the_first_stop_string(
    pieces: list[str], stops: list[str], keep: bool
) -> None:
    finder = StopFinder(stops, keep=keep)
    given_out, found = "", None
    seen = ""
    for piece in pieces:
        seen += piece
        text, found = finder.feed(piece)
        given_out += text
        if found is not None:
            break
        assert not any(stop in seen for stop in stops)
    if found is None:
        assert given_out + finder.flush() == "".join(pieces)
        return
    place = min(seen.index(stop) for stop in stops if stop in seen)
    assert seen.startswith(found, place)
    assert given_out == seen[: place + len(found) * keep]
