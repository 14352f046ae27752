"""Asks a DNS server for the address of a name: `dns_probe.py SERVER NAME`, status 0 if it has one.

A script by itself, because it runs inside the cluster's network, where no package path leads.
"""

import random
import socket
import struct
import sys

TYPE_A, CLASS_IN = 1, 1


def question(name: str, identity: int) -> bytes:
    """A query for one address record."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return (
        struct.pack(">HHHHHH", identity, 0x0100, 1, 0, 0, 0)
        + labels
        + b"\0"
        + struct.pack(">HH", TYPE_A, CLASS_IN)
    )


def has_answer(reply: bytes, identity: int) -> bool:
    """Whether a reply is to this query, without error and with a record."""
    if len(reply) < 12:
        return False
    found, flags, _, answers, _, _ = struct.unpack(">HHHHHH", reply[:12])
    return found == identity and bool(flags & 0x8000) and flags & 0xF == 0 and answers > 0


def main(server: str, name: str) -> int:
    """Ask once; 0 if there is an answer within a second."""
    identity = random.randrange(1 << 16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(1.0)
        try:
            asker.sendto(question(name, identity), (server, 53))
            return 0 if has_answer(asker.recv(512), identity) else 1
        except OSError:
            return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
