"""Values of options: from their text to what they mean, or why they mean nothing."""

import argparse
import math
import re
from itertools import pairwise
from typing import Final

from cascade_planner.objective import RECOMPUTE, Crossing
from cascade_policy.move import FIXED_MOVE_MS

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES_PER_MS_OF_GB_PER_S: Final = 1e6


def positive_int(text: str) -> int:
    """A whole number above 0."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return value


def positive_float(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def not_negative(text: str) -> float:
    """A number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 0")
    return value


def gigabytes_per_second(text: str) -> float:
    """Bytes per ms of a bandwidth in GB/s."""
    return positive_float(text) * _BYTES_PER_MS_OF_GB_PER_S


def duration(text: str) -> int:
    """Seconds from `90`, `90s`, `15m`, `6h`, `2d` or `1w`."""
    match = re.fullmatch(r"(\d{1,9})([smhdw]?)", text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if seconds < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 15m, 6h, 2d or 1w")
    return seconds


def boundaries(text: str) -> tuple[int, ...]:
    """Lengths in tokens, ascending, with commas between them."""
    try:
        ends = tuple(int(part) for part in text.split(","))
    except ValueError:
        ends = (0,)
    if min(ends) < 1 or any(low >= high for low, high in pairwise(ends)):
        raise argparse.ArgumentTypeError(
            f"{text!r} are no boundaries; write lengths in tokens that ascend, such as 1024,8192"
        )
    return ends


def transport(text: str) -> Crossing:
    """`recompute`, or `copy:GB/s`."""
    if text == "recompute":
        return RECOMPUTE
    kind, _, bandwidth = text.partition(":")
    try:
        bytes_per_ms = gigabytes_per_second(bandwidth)
    except argparse.ArgumentTypeError:
        kind = ""
    if kind != "copy":
        raise argparse.ArgumentTypeError(
            f"{text!r} is no transport; write recompute, or copy:25 for a copy at 25 GB/s"
        )
    return Crossing(copy_bytes_per_ms=bytes_per_ms, fixed_ms=FIXED_MOVE_MS)


def header(text: str) -> tuple[str, str]:
    """Name and value of an HTTP header, `Name: value`."""
    name, colon, value = text.partition(":")
    value = value.strip()
    well_formed = re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) and value.isascii()
    if not (colon and well_formed and value.isprintable()):
        # The text may be a secret: it is not repeated.
        raise argparse.ArgumentTypeError("a header is written 'Name: value'")
    return name, value
