"""Frames: whatever the cuts, the same frames; and what is no frame is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_router.channel.frames import FrameReader, InvalidFrame, Kind, frame

FRAMES = st.lists(
    st.tuples(st.sampled_from(Kind), st.integers(0, 0xFFFF_FFFF), st.binary(max_size=200)),
    max_size=12,
)


def read(pieces: list[bytes], limit: int = 1000) -> list[tuple[int, int, bytes]]:
    frames: list[tuple[int, int, bytes]] = []
    reader = FrameReader(limit)
    for piece in pieces:
        reader.feed(piece, lambda *one: frames.append(one))
    return frames


@given(frames=FRAMES, data=st.data())
def test_frames_arrive_whole_however_the_bytes_are_cut(
    frames: list[tuple[Kind, int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(frame(*one) for one in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[low:high] for low, high in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(pieces) == frames


def test_one_byte_at_a_time_is_enough() -> None:
    stream = frame(Kind.OPEN, 7, b"abc") + frame(Kind.PING, 0)
    assert read([stream[i : i + 1] for i in range(len(stream))]) == [
        (Kind.OPEN, 7, b"abc"),
        (Kind.PING, 0, b""),
    ]


def test_a_frame_that_is_longer_than_allowed_is_refused_by_its_head() -> None:
    with pytest.raises(InvalidFrame, match="1001 bytes, 1000 are allowed"):
        read([frame(Kind.OPEN, 1, b"x" * 1001)[:9]])


@given(data=st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    try:
        read([data])
    except InvalidFrame:
        return
