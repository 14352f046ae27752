"""Trust between sidecars: what is signed, for how long, and how a key is rotated."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_router.hop import MAX_SKEW_SECONDS, OVERLAP_SECONDS, HopKeyError, KeyFile, sign, verify

KEY = b"0123456789abcdef0123456789abcdef"
OTHER = b"fedcba9876543210fedcba9876543210"
NOW = 1_800_000_000.0
PATH = "/v1/completions"


def test_a_signature_is_good_for_its_key_path_and_time() -> None:
    assert verify([KEY], sign(KEY, PATH, NOW, "pod-a"), PATH, NOW)


@pytest.mark.parametrize(
    ("keys", "path", "wall", "good"),
    [
        pytest.param([OTHER], PATH, NOW, False, id="another key"),
        pytest.param([], PATH, NOW, False, id="no key at all"),
        pytest.param([OTHER, KEY], PATH, NOW, True, id="one of two keys, while rotating"),
        pytest.param([KEY], "/_cascade/bid", NOW, False, id="another path"),
        pytest.param([KEY], PATH, NOW + MAX_SKEW_SECONDS - 1, True, id="a clock that is ahead"),
        pytest.param([KEY], PATH, NOW - MAX_SKEW_SECONDS + 1, True, id="a clock that is behind"),
        pytest.param([KEY], PATH, NOW + MAX_SKEW_SECONDS + 1, False, id="a signature too old"),
        pytest.param([KEY], PATH, NOW - MAX_SKEW_SECONDS - 1, False, id="from the future"),
    ],
)
def test_when_a_signature_is_good(keys: list[bytes], path: str, wall: float, good: bool) -> None:
    assert verify(keys, sign(KEY, PATH, NOW, "pod-a"), path, wall) is good


@pytest.mark.parametrize("position", range(4))
def test_no_part_can_be_exchanged(position: int) -> None:
    mine = sign(KEY, PATH, NOW, "pod-a").split(".")
    mine[position] = ["v2", str(int(NOW) + 1), "pod-b", "0" * 64][position]
    assert not verify([KEY], ".".join(mine), PATH, NOW)


@pytest.mark.parametrize("nonce", ["", "a\nb", "a b", "x" * 129, "\u00e9"])
def test_a_nonce_that_could_pass_for_another_part_is_refused(nonce: str) -> None:
    assert not verify([KEY], sign(KEY, PATH, NOW, nonce), PATH, NOW)


@given(value=st.text(max_size=600))
def test_no_text_breaks_the_check(value: str) -> None:
    assert not verify([KEY], value, PATH, NOW)


def put(path: Path, key: bytes, modified: int) -> None:
    path.write_bytes(key)
    os.utime(path, (modified, modified))


def test_a_missing_key_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(HopKeyError, match="hop-key"):
        KeyFile(tmp_path / "hop-key").keys(0.0)


def test_a_short_key_is_no_key(tmp_path: Path) -> None:
    put(tmp_path / "hop-key", b"secret", 1)
    with pytest.raises(HopKeyError, match="16 bytes"):
        KeyFile(tmp_path / "hop-key").keys(0.0)


def test_a_key_that_appears_late_is_found(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "hop-key")
    with pytest.raises(HopKeyError):
        keys.keys(0.0)
    put(tmp_path / "hop-key", KEY, 1)
    assert keys.keys(2.0) == (KEY,)


def test_after_a_rotation_both_keys_are_good_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "hop-key"
    put(path, KEY + b"\n", 1)
    keys = KeyFile(path)
    assert keys.keys(0.0) == (KEY,)
    put(path, OTHER, 2)
    assert keys.keys(0.5) == (KEY,), "the file is looked at once a second"
    assert keys.keys(1.5) == (OTHER, KEY)
    assert keys.keys(1.5 + OVERLAP_SECONDS) == (OTHER, KEY)
    assert keys.keys(1.6 + OVERLAP_SECONDS) == (OTHER,)


def test_a_key_stays_in_use_when_its_file_is_gone_or_spoilt(tmp_path: Path) -> None:
    path = tmp_path / "hop-key"
    put(path, KEY, 1)
    keys = KeyFile(path)
    assert keys.keys(0.0) == (KEY,)
    path.unlink()
    assert keys.keys(2.0) == (KEY,)
    put(path, b"", 3)
    assert keys.keys(4.0) == (KEY,)


def test_the_key_never_shows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "hop-key", b"short-secret", 1)
    with pytest.raises(HopKeyError) as caught:
        KeyFile(tmp_path / "hop-key").keys(0.0)
    assert "short-secret" not in caplog.text + str(caught.value)


def test_a_stamp_of_hundreds_of_digits_is_refused() -> None:
    assert not verify([b"key"], f"v1.{'9' * 400}.a.b", "/v1/models", 0.0)
