"""How two sidecars come to trust a channel: each proves afresh that it holds the key.

The front asks for an upgrade with a signed header that holds a random text and names the address
that it calls. The target answers with a signature over that text, and a random text of its own,
over which the front's first frame is a signature. So a recorded conversation is of no use, and an
address that has passed to another pod gets no prompt: that pod cannot sign, and no sidecar signs
for it, since the front did not call the sidecar's own address. Signatures are those of `hop`.
Frames are neither signed nor encrypted: who can read or change the packets between two pods can do
so here too.
"""

from collections.abc import Iterable
from typing import Final

from cascade_policy import names
from cascade_router.hop import nonce_of, sign, verify

PATH: Final = "/_cascade/channel"
PROTOCOL: Final = "cascade-channel"
END_OF_HEAD: Final = b"\r\n\r\n"
MAX_HEAD_BYTES: Final = 4096


class Untrusted(Exception):
    """The other side did not prove that it holds the key; the message says what it sent."""


def request(key: bytes, address: str, wall: float, nonce: str) -> bytes:
    """The front's request for a channel to the target at `address`, "ip:port"."""
    hop = sign(key, _text("to", address), wall, nonce)
    return (
        f"GET {PATH} HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\n"
        f"upgrade: {PROTOCOL}\r\n{names.HEADER_HOP}: {hop}\r\n\r\n"
    ).encode()


def is_request(keys: Iterable[bytes], hop: str, wall: float, address: str) -> bool:
    """Whether a hop header asks for a channel to the sidecar at `address`."""
    return verify(keys, hop, _text("to", address), wall)


def acceptance(key: bytes, hop: str, wall: float, challenge: str) -> list[tuple[str, str]]:
    """The headers with which a target accepts the request that came with header `hop`."""
    return [
        ("connection", "Upgrade"),
        ("upgrade", PROTOCOL),
        (names.HEADER_HOP, sign(key, _text("target", nonce_of(hop)), wall, challenge)),
    ]


def proof(keys: Iterable[bytes], head: bytes, wall: float, nonce: str) -> bytes:
    """What the front sends first, given the target's whole answer to a request with `nonce`.

    Raises Untrusted when the target refused or did not prove itself.
    """
    lines = head.decode("latin-1").split("\r\n")
    status = lines[0].split(" ")[1:2]
    if status != ["101"]:
        raise Untrusted(f"it answered with status {' '.join(status) or 'of no kind'}")
    headers = dict(line.lower().partition(": ")[::2] for line in lines[1:] if line)
    answer = headers.get(names.HEADER_HOP, "")
    keys = tuple(keys)
    if not verify(keys, answer, _text("target", nonce), wall):
        raise Untrusted("it did not prove that it is a sidecar of this service")
    return sign(keys[0], _text("front", nonce_of(answer)), wall, nonce).encode()


def is_proof(keys: Iterable[bytes], content: bytes, wall: float, challenge: str) -> bool:
    """Whether the front's first frame answers `challenge`."""
    return verify(keys, content.decode("latin-1"), _text("front", challenge), wall)


def _text(role: str, other: str) -> str:
    """What is signed: who speaks, and the random text or the address of whom it is for."""
    return f"{PATH}#{role}#{other}"
