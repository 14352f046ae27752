"""Limits and timeouts of everything that this sidecar listens to or calls, each with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MAX_CONNECTIONS: Final = 8192
"""Of clients; one HTTP/1.1 connection per stream."""
MAX_CHANNELS: Final = 8192
"""From fronts, those that have not proved themselves yet among them."""
MAX_HEAD_BYTES: Final = 64 * 1024
"""First line and headers of a request; a client's own take 1 KB, a mesh's proxy adds as much."""
MAX_HEADERS: Final = 100
"""Lines of them."""
MAX_TARGET_BYTES: Final = 8 * 1024
"""No path that is served is longer than 30 bytes; the query means nothing."""
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""A prompt of a million ids is about 8 MB of JSON."""
MAX_CHUNK_LINE_BYTES: Final = 1024
"""A line between chunks: the size of the next one with its extensions, or a trailer."""
MAX_CHUNK_EXTENSION_BYTES: Final = 4096
"""Extensions of one body together: nobody sends them, and they are read for nothing."""
MAX_TRAILER_BYTES: Final = 4096
"""Trailers of one body together; a checksum and a signature fit."""
MAX_UNREAD_BYTES: Final = 64 * 1024 * 1024
"""Bodies that are arriving, of all connections together: they must fit beside the streams."""
MAX_HELD_BYTES: Final = 128 * 1024 * 1024
"""Bodies and fields of requests whose answers have not begun, all together; one may be kept three
times for the moment in which its prompt is measured."""
MAX_AHEAD_BYTES: Final = 256 * 1024
"""Pipelined bytes kept while an answer is under way."""
MAX_EVENT_BYTES: Final = 2 * 1024 * 1024
"""The first event of a stream carries all prompt ids: 128k of them are about 1 MB."""
EVENT_BYTES_PER_TOKEN: Final = 12
"""Longer contexts need longer first events: at most 10 digits, a comma, and slack."""
MAX_ERROR_BYTES: Final = 64 * 1024
"""Body of an error answer that is kept to be passed on."""
MAX_FETCH_BYTES: Final = 64 * 1024 * 1024
"""Body of a control answer: `/tokenize` of a long prompt returns all its ids."""
WRITE_HIGH_BYTES: Final = 128 * 1024
"""Bytes that wait for a slow client before its upstream is paused."""

HEAD_SECONDS: Final = 20.0
"""From the first byte of a request to the end of its head."""
BODY_STALL_SECONDS: Final = 30.0
"""Silence within a body, and how long it may come more slowly than the rate below."""
MIN_BODY_BYTES_PER_SECOND: Final = 1024
"""Below what any network does; a body that drips in holds memory that others need."""
LINGER_SECONDS: Final = 2.0
"""How long a client may still send what nobody reads after it was refused: closed at once, its own
system would throw the answer away."""
LINGER_BYTES: Final = 1024 * 1024
"""How much it may send in that time."""
KEEP_ALIVE_SECONDS: Final = 75.0
"""An idle connection of a client."""
CLIENT_STALL_SECONDS: Final = 300.0
"""A client that reads nothing for so long is gone; its engine's memory is not."""
CONNECT_SECONDS: Final = 2.0
ENGINE_REUSE_SECONDS: Final = 3.0
"""vLLM closes idle connections after 5 s and does not say so."""
CHANNEL_PING_SECONDS: Final = 2.0
"""A front that has said nothing for so long asks whether its target is there: both learn by it that
the other one is."""
CHANNEL_SILENCE_SECONDS: Final = 10.0
"""A target that says nothing for so long, asked or not, is lost with all its streams."""
CHANNEL_IDLE_SECONDS: Final = 120.0
"""An unused channel is closed: in a pool of thousands, a front would keep one to each target."""
MAX_FRAME_BYTES: Final = MAX_BODY_BYTES + 1024 * 1024
"""A whole request: its body, and what announces it."""
CHANNEL_HIGH_BYTES: Final = 1024 * 1024
"""Bytes that wait for a front before the engine's answers for it are read no further."""
USER_TIMEOUT_MS: Final = 10_000
"""TCP_USER_TIMEOUT towards peers: a node that is gone is noticed although nothing is refused."""
SWEEP_SECONDS: Final = 1.0
"""One timer looks after all timeouts: no timer per connection or event."""

RETRY_AFTER_SECONDS: Final = 1
MAX_WAITING: Final = 1024
"""Requests that wait at one front because no instance has room."""
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""What their bodies may take."""
MAX_WAIT_SECONDS: Final = 120.0
MAX_GREETED: Final = 64
"""Instances that are asked for their load as soon as they are seen."""
RESCUES: Final = 3
"""Legs of one stream that may fail before it is given up."""
REPLACE_SECONDS: Final = 10.0
"""How long a stream that has lost its instance waits for any instance to be ready."""
REPLACE_POLL_SECONDS: Final = 0.1
RESCUE_RENEWED_TOKENS: Final = 64
"""Tokens after which a stream has proved that it can go on, and its failures are forgotten."""
WARM_SECONDS: Final = 10.0
"""Least time for the target of a hand-over to compute the sequence; its prefill comes on top."""
WHOLE_ANSWER_SECONDS: Final = 3600.0
"""Silence allowed for an unstreamed answer: it says nothing before it is complete."""
CLEAN_POINT_TOKENS: Final = 16
"""How long a hand-over waits for a clean point before it makes one by `/detokenize`."""
REVIEW_AGE_SECONDS: Final = 0.25
"""Load older than this is asked for again before running sequences are reviewed."""
ASK_SECONDS: Final = 10.0
"""Wait for one engine's answer to what any of them can answer, such as `/tokenize`."""
MOST_ASKED_OTHERS: Final = 2
"""Other instances that are asked, one after the other, when this pod's engine cannot answer."""
PROPAGATION_SECONDS: Final = 2.0
"""After SIGTERM, how long requests may still arrive from fronts that have not heard of it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The waits that depend on the machine, in seconds; the rest of the limits are constants."""

    bid_deadline: float = 0.005
    """The slowest of all asked is added to every TTFT; the last known load stands in for it."""
    stream_idle: float = 30.0
    """Silence between two events after which an engine counts as lost."""
    first_byte: float = 120.0
    """Least wait for the first event; the predicted wait for the prefill comes on top."""
    tokenize: float = 0.25
    """Wait for an exact prompt length; the estimate stands in."""
    propagation: float = PROPAGATION_SECONDS

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Timing":
        """Read CASCADE_BID_DEADLINE_MS, CASCADE_STREAM_IDLE_SECONDS and
        CASCADE_FIRST_BYTE_SECONDS; missing ones keep their defaults.

        Raises ValueError naming the variable that is not a positive number.
        """
        default = cls()
        return cls(
            bid_deadline=_positive(env, "CASCADE_BID_DEADLINE_MS", default.bid_deadline * 1000)
            / 1000,
            stream_idle=_positive(env, "CASCADE_STREAM_IDLE_SECONDS", default.stream_idle),
            first_byte=_positive(env, "CASCADE_FIRST_BYTE_SECONDS", default.first_byte),
        )


def _positive(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 86_400:
        raise ValueError(f"{name} must be a number above 0, not {text!r}")
    return value
