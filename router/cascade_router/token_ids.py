"""Token ids that a stream has generated, in four bytes each.

As JSON they would be half as large again, for thousands of long streams.
"""

from array import array
from collections.abc import Iterable


def token_ids(ids: Iterable[int] = ()) -> "array[int]":
    """These ids."""
    return array("I", ids)


def take(ids: "array[int]", raw: bytes) -> None:
    """Append the inside of a JSON list. Raises ValueError, and then `ids` are what they were."""
    try:
        ids.extend(token_ids(map(int, raw.split(b","))))
    except OverflowError:
        raise ValueError("an id does not fit in 32 bits") from None


def joined(*lists: bytes) -> bytes:
    """The insides of several JSON lists as that of one."""
    return b",".join(part for part in lists if part)


def inside(ids: "array[int]", start: int = 0, end: int | None = None) -> bytes:
    """These ids from `start` to `end` as the inside of a JSON list."""
    return b",".join(b"%d" % number for number in ids[start:end])
