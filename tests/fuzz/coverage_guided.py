"""The same properties under inputs that grow towards lines of code which none has reached.

`python -m tests.fuzz.coverage_guided requests --seconds 60` runs until an input fails or the time
is over. It needs atheris: `pip install --require-hashes -r tests/fuzz/requirements.txt`.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

TARGETS: Final = ("requests", "stream", "chunks")
SEED: Final = 1
MAX_BYTES: Final = 600
MAX_CUTS: Final = 8


def _targets() -> dict[str, Callable[[bytes, list[int]], None]]:
    """What can be fuzzed: each takes some bytes, and where they are cut. Imported late, so that
    atheris sees the modules come."""
    from tests.fuzz import outcome
    from tests.fuzz import test_event_parsers as events
    from tests.router.http.wire import cut

    def requests(wire: bytes, cuts: list[int]) -> None:
        with outcome.small_limits():
            assert outcome.outcome(wire) == outcome.outcome(wire, cuts)

    def stream(wire: bytes, cuts: list[int]) -> None:
        assert events.split_events(list(cut(wire, cuts))) == events.plain_events(wire)

    def chunks(wire: bytes, cuts: list[int]) -> None:
        one = events.read_chunks([events.HEAD, wire])
        other = events.read_chunks([events.HEAD, *cut(wire, cuts)])
        assert (one.ended, one.broken) == (other.ended, other.broken)
        assert not one.ended or one.body == other.body

    return {"requests": requests, "stream": stream, "chunks": chunks}


def _seeds(target: str) -> list[bytes]:
    """Inputs to begin with."""
    from tests.fuzz.requests import LINES

    head = b"POST / HTTP/1.1\r\nhost: a\r\n"
    chunks = b"8;a=b\r\ndata: a\n\r\n1\r\n\n\r\n0\r\nx-sum: 1\r\n\r\n"
    if target == "stream":
        return [b"event: a\r\ndata: {}\r\n\r\ndata: [DONE]\n\n"]
    if target == "chunks":
        return [chunks]
    coding = head + b"transfer-encoding: chunked\r\n\r\n"
    sized = head + b"content-length: 3\r\n\r\nabc"
    return [sized * 2, coding + chunks, *(head + line + b"\r\n\r\n" for line in LINES)]


def _dictionary() -> str:
    """Words that are put into inputs, as libFuzzer reads them."""
    from tests.fuzz import requests

    words = (*requests.LINES, *requests.ODD_LINES, *requests.ALPHABET, *requests.TARGETS)
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in words)
    return "".join(f'"{word}"\n' for word in escaped)


def divided(data: bytes) -> tuple[bytes, list[int]]:
    """An input's bytes and its cuts: of the first byte their number, then one for each."""
    count = min(data[0] % (MAX_CUTS + 1) if data else 0, max(len(data) - 1, 0))
    wire = data[1 + count :]
    return wire, [place * len(wire) // 256 for place in data[1 : 1 + count]]


def main() -> None:
    """Run one target for so many seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    import atheris

    fuzzer: Any = atheris
    with fuzzer.instrument_imports(include=["cascade_router"]):
        target = _targets()[options.target]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, words = folder / "corpus", folder / "words"
        corpus.mkdir()
        for number, seed in enumerate(_seeds(options.target)):
            (corpus / str(number)).write_bytes(bytes([2, 100, 200]) + seed)
        words.write_text(_dictionary())
        limits = (f"-max_total_time={options.seconds}", f"-seed={SEED}", f"-max_len={MAX_BYTES}",
                  f"-dict={words}", f"-artifact_prefix={tempfile.gettempdir()}/")  # fmt: skip
        fuzzer.Setup([sys.argv[0], *limits, str(corpus)], lambda data: target(*divided(data)))
        fuzzer.Fuzz()


if __name__ == "__main__":
    main()
