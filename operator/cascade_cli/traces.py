"""Reads traces: when requests came, how long their prompts and answers were.

Three formats, told apart by their content, plain or compressed with gzip or xz:

- Azure: CSV with the header `TIMESTAMP,ContextTokens,GeneratedTokens`;
- Mooncake: JSON lines with `timestamp` (ms), `input_length`, `output_length` and, if known,
  `hash_ids`;
- plain: CSV of `prompt,output` or `arrival,prompt,output` (seconds, tokens), with or without
  these names in its first line.

A trace is read line by line, and nothing of it is kept. Standard library only.
"""

import csv
import gzip
import io
import json
import lzma
import math
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, NoReturn, cast

BLOCK_TOKENS: Final = 512
"""Prompt tokens that one entry of `TraceRequest.blocks` stands for."""
MAX_TOKENS: Final = 2**24
"""No model takes longer sequences: what claims to be longer is no length."""
MAX_SECONDS: Final = 1e15
"""Times beyond that are none; differences of those within it stay exact to a second."""
MAX_LINE_BYTES: Final = 2**20
"""Longer lines are no requests, and are not kept in memory to find out."""
STDIN: Final = "-"

_SHOWN: Final = 80
"""Characters of a line that a message repeats."""
_GZIP: Final = b"\x1f\x8b"
_XZ: Final = b"\xfd7zXZ\x00"
_HEADERS: Final = (
    ("timestamp", "contexttokens", "generatedtokens"),
    ("arrival", "prompt", "output"),
    ("arrival", "prompt_tokens", "output_tokens"),
    ("prompt", "output"),
    ("prompt_tokens", "output_tokens"),
)
"""First lines of CSV files, in lower case."""
FORMATS: Final = (
    "a CSV file with the header TIMESTAMP,ContextTokens,GeneratedTokens (Azure), lines of "
    '{"timestamp": MS, "input_length": TOKENS, "output_length": TOKENS} (Mooncake), or a CSV file '
    "of prompt,output or arrival,prompt,output (tokens, seconds)"
)
"""What can be read, for messages."""


class InvalidTrace(ValueError):
    """A trace cannot be read; the message names the file and line, and says what to do."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that holds no request."""

    number: int
    text: str
    """Its beginning, as far as it can be shown."""
    problem: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.text!r} is no request ({self.problem})"


OnBadLine = Callable[[BadLine], object]
"""Told of each bad line, which is then left out."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request of a trace. Lengths in tokens."""

    arrival: float
    """Seconds since the first request of the trace; NaN where the file tells no times."""
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    """What the prompt consists of, one number per BLOCK_TOKENS; empty when that is not known."""


def read_trace(path: str | Path, on_bad_line: OnBadLine | None = None) -> list[TraceRequest]:
    """The requests of a whole trace in order of arrival, the first at 0.

    Raises InvalidTrace: also for a trace without times, and, unless `on_bad_line` takes it, for
    the first bad line.
    """
    name = shown(path)
    with opened(path) as raw:
        rows = list(requests(raw, name, on_bad_line))
    if math.isnan(rows[0].arrival):
        raise InvalidTrace(
            f"trace {name} tells no arrival times: give it three columns, arrival,prompt,output"
        )
    rows.sort(key=lambda row: row.arrival)
    start = rows[0].arrival
    return [replace(row, arrival=row.arrival - start) for row in rows]


def shown(path: str | Path) -> str:
    """What messages call the file at `path`."""
    return "standard input" if path == STDIN else str(path)


def opened(path: str | Path, what: str = "trace") -> AbstractContextManager[BinaryIO]:
    """The bytes of a file, or of the standard input for STDIN. Raises InvalidTrace."""
    if path == STDIN:
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise InvalidTrace(
            f"{what} {path} cannot be read ({error.strerror or error}): check the path"
        ) from None


def requests(
    raw: BinaryIO, name: str, on_bad_line: OnBadLine | None = None
) -> Iterator[TraceRequest]:
    """The requests in the order of their lines; arrivals count from the first of them.

    Memory does not grow with the trace. `name` is for messages. Raises InvalidTrace for what is
    no trace, holds no request, or breaks off; for a bad line, unless `on_bad_line` takes it.
    """
    found = 0
    start = 0.0

    def bad(line: BadLine) -> None:
        if on_bad_line is None:
            _refuse(name, f"{line}: correct the line or remove it")
        on_bad_line(line)

    try:
        for request in _parsed(_lines(_decompressed(raw, name), bad), name, bad):
            start = start if found else request.arrival
            found += 1
            yield replace(request, arrival=request.arrival - start)
    except (EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        _refuse(name, f"breaks off after {found:,} requests ({error}): copy or compress it again")
    if not found:
        _refuse(name, f"holds no request; expected {FORMATS}")


def _refuse(name: str, what: str) -> NoReturn:
    raise InvalidTrace(f"trace {name} {what}") from None


def _decompressed(raw: BinaryIO, name: str) -> BinaryIO:
    buffered = (
        raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
    )
    head = buffered.peek(len(_XZ))
    if head.startswith(_GZIP):
        return cast(BinaryIO, gzip.GzipFile(fileobj=buffered))
    if head.startswith(_XZ):
        return cast(BinaryIO, lzma.LZMAFile(buffered))
    if b"\0" in head:
        _refuse(name, f"is no text in UTF-8; expected {FORMATS}, plain, .gz or .xz")
    return buffered


def _lines(raw: BinaryIO, bad: OnBadLine) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not blank."""
    number = 0
    while line := raw.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            _skip_line(raw)
            bad(_bad_line(number, line, f"it is longer than {MAX_LINE_BYTES} bytes"))
            continue
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            bad(_bad_line(number, line, "it is no text in UTF-8"))
            continue
        if text:
            yield number, text


def _skip_line(raw: BinaryIO) -> None:
    while (rest := raw.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
        pass


def _bad_line(number: int, line: bytes | str, problem: str) -> BadLine:
    beginning = line[:_SHOWN]
    if isinstance(beginning, bytes):
        beginning = beginning.decode("utf-8", "replace")
    return BadLine(number, beginning, problem)


def _parsed(lines: Iterator[tuple[int, str]], name: str, bad: OnBadLine) -> Iterator[TraceRequest]:
    """The requests of the lines, of which the first decides about the format."""
    parse: _Parse | None = None
    for number, text in lines:
        if parse is None:
            parse, is_header = _format(text, f"{name} line {number}")
            if is_header:
                continue
        try:
            request = parse(text)
        except (ValueError, OverflowError, RecursionError, csv.Error) as error:
            bad(_bad_line(number, text, str(error)))
        else:
            yield request


_Parse = Callable[[str], TraceRequest]


def _format(text: str, where: str) -> tuple[_Parse, bool]:
    """How to parse the lines of a trace that begins with `text`, and whether that is a header."""
    if text.startswith("{"):
        return _mooncake, False
    fields = [field.strip(' "') for field in text.split(",")]
    parse = {2: _untimed, 3: _timed}.get(len(fields))
    if parse is not None:
        if tuple(field.lower() for field in fields) in _HEADERS:
            return parse, True
        if any(field.isdecimal() for field in fields):
            return parse, False
    _refuse(where, f"is {text[:_SHOWN]!r}: no known header and no request; expected {FORMATS}")


def _timed(text: str) -> TraceRequest:
    moment, prompt, output = _fields(text, 3, "arrival,prompt,output")
    return _request(_arrival(moment), _whole(prompt), _whole(output))


def _untimed(text: str) -> TraceRequest:
    prompt, output = _fields(text, 2, "prompt,output")
    return _request(math.nan, _whole(prompt), _whole(output))


def _fields(text: str, count: int, names: str) -> list[str]:
    fields = next(csv.reader([text]))
    if len(fields) != count:
        raise ValueError(f"expected the {count} fields {names}")
    return fields


def _arrival(text: str) -> float:
    """Seconds: a number as it stands, a date and time on the clock of the epoch."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = _clock_time(text)
    return _in_range(seconds)


def _clock_time(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text[:_SHOWN]!r} is no time; expected seconds or YYYY-MM-DD hh:mm:ss.ffffff"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _in_range(seconds: float) -> float:
    if not abs(seconds) <= MAX_SECONDS:
        raise ValueError(f"the time {seconds} is out of range")
    return seconds


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text[:_SHOWN]!r} is no whole number of tokens") from None


def _mooncake(text: str) -> TraceRequest:
    row = json.loads(text)
    if not isinstance(row, dict):
        raise ValueError("expected a JSON object")
    missing = [
        key for key in ("timestamp", "input_length", "output_length") if row.get(key) is None
    ]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    prompt, output, blocks = row["input_length"], row["output_length"], row.get("hash_ids") or ()
    if type(prompt) is not int or type(output) is not int:
        raise ValueError("lengths must be whole numbers")
    if type(row["timestamp"]) not in (int, float):
        raise ValueError("timestamp must be a number of milliseconds")
    if not isinstance(blocks, list | tuple) or any(type(block) is not int for block in blocks):
        raise ValueError("hash_ids must be a list of whole numbers")
    if blocks and len(blocks) * BLOCK_TOKENS < prompt:
        raise ValueError(f"{len(blocks)} blocks are too few for {prompt} tokens")
    return _request(_in_range(row["timestamp"] / 1000), prompt, output, tuple(blocks))


def _request(
    arrival: float, prompt: int, output: int, blocks: tuple[int, ...] = ()
) -> TraceRequest:
    if min(prompt, output) < 1:
        raise ValueError("lengths must be at least 1 token")
    if max(prompt, output) > MAX_TOKENS:
        raise ValueError(f"lengths must be at most {MAX_TOKENS} tokens")
    return TraceRequest(arrival, prompt, output, blocks)
