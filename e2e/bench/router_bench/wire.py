"""What the bench's engine and client agree on: the stamp in each event, and the paths of control.

The text of an event is ` NNNN MMMMMMMM`: its number in the stream and the microsecond in which it
was sent, both by modulus, on the clock that all processes of a machine share.
"""

from time import monotonic_ns
from typing import Final

NUMBERS: Final = 10_000
MICROSECONDS: Final = 100_000_000
STAMP: Final = b" %04d %08d"
STAMP_BYTES: Final = 14
TEXT: Final = b'"text":"'
DONE: Final = b"data: [DONE]"

COMPLETIONS: Final = "/v1/completions"
PACE: Final = "/bench/pace"
"""POST `{"mode": "step" | "spread" | "none", "gap": seconds between two events of a stream}`."""
FINISH: Final = "/bench/finish"
"""POST: all open streams end with their next event; answers `{"events", "streamsWithIds"}`, of
all streams since the engine began."""

STEP: Final = "step"
SPREAD: Final = "spread"
NO_PACE: Final = "none"

PROMPT_TOKENS: Final = 128
MODEL: Final = "bench"


def now_us() -> int:
    """The microsecond now, by the modulus of stamps."""
    return monotonic_ns() // 1000 % MICROSECONDS


def delay_us(sent: int, received: int) -> int:
    """Microseconds from one stamp to another that is less than 50 s later."""
    delay = (received - sent) % MICROSECONDS
    return delay if delay < MICROSECONDS // 2 else delay - MICROSECONDS


def prompt(head: int) -> str:
    """A prompt that asks the engine for `head` events at once; the rest follows at its pace."""
    return f"{head} " + "word " * (PROMPT_TOKENS - 1)
