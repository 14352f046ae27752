"""Reads traces: when requests came, how long their prompts and answers were."""

import csv
import gzip
import json
import lzma
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TextIO

BLOCK_TOKENS: Final = 512
"""Prompt tokens that one entry of `TraceRequest.blocks` stands for."""

_FOLDER: Final = Path(__file__).parent
TRACES: Final[dict[str, Path]] = {
    "azure": _FOLDER / "azure_2023_conversation.csv.xz",
    "mooncake": _FOLDER / "mooncake_conversation.jsonl.xz",
}
"""The traces that come with the project, by short name."""

_AZURE_COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


class InvalidTrace(ValueError):
    """A trace cannot be read; the message names the file and line, and says what to do."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request of a trace. Lengths in tokens."""

    arrival: float
    """Seconds since the first request of the trace."""
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    """What the prompt consists of, one number per BLOCK_TOKENS; empty when that is not known."""


def read_trace(name: str | Path) -> list[TraceRequest]:
    """The requests of a trace in order of arrival: a key of TRACES, or the path of a file.

    Raises InvalidTrace.
    """
    path = TRACES.get(str(name), Path(name))
    kind = path.name.removesuffix(".xz").removesuffix(".gz").rpartition(".")[2]
    if kind not in ("csv", "jsonl"):
        raise InvalidTrace(
            f"trace {str(name)!r} is not known: use one of {', '.join(sorted(TRACES))}, or a file "
            "that ends in .csv or .jsonl (plain, .gz or .xz)"
        )
    with _opened(path) as lines:
        rows = list(_azure(path, lines) if kind == "csv" else _mooncake(path, lines))
    if not rows:
        raise InvalidTrace(f"trace {path} holds no request: is it the right file?")
    return _from_first(rows)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with _text_of(path) as lines:
            yield lines
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise InvalidTrace(f"trace {path} cannot be read: {error}") from None


def _text_of(path: Path) -> TextIO:
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8", newline="")
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _from_first(rows: Sequence[TraceRequest]) -> list[TraceRequest]:
    ordered = sorted(rows, key=lambda row: row.arrival)
    start = ordered[0].arrival
    return [
        TraceRequest(row.arrival - start, row.prompt_tokens, row.output_tokens, row.blocks)
        for row in ordered
    ]


def _azure(path: Path, lines: Iterable[str]) -> Iterator[TraceRequest]:
    reader = csv.reader(lines)
    header = tuple(next(reader, ()))
    if header != _AZURE_COLUMNS:
        raise InvalidTrace(
            f"{path} line 1: the header is {','.join(header)!r}, expected "
            f"{','.join(_AZURE_COLUMNS)!r}"
        )
    for row in reader:
        if not row:
            continue
        try:
            moment, prompt, output = row
            # Seven decimals: one more than the standard library reads.
            arrival = datetime.fromisoformat(moment[:26] + "+00:00").timestamp()
            yield _checked(arrival, int(prompt), int(output))
        except ValueError as error:
            raise InvalidTrace(
                f"{path} line {reader.line_num}: {','.join(row)!r} is no request ({error}); "
                "expected 'YYYY-MM-DD hh:mm:ss.fffffff,PROMPT_TOKENS,OUTPUT_TOKENS': correct the "
                "line or remove it"
            ) from None


def _mooncake(path: Path, lines: Iterable[str]) -> Iterator[TraceRequest]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            blocks = tuple(int(block) for block in row.get("hash_ids", ()))
            yield _checked(
                float(row["timestamp"]) / 1000, row["input_length"], row["output_length"], blocks
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidTrace(
                f"{path} line {number}: {line.strip()[:80]!r} is no request ({error!r}); expected "
                '{"timestamp": MS, "input_length": TOKENS, "output_length": TOKENS, "hash_ids": '
                "[...]}: correct the line or remove it"
            ) from None


def _checked(
    arrival: float, prompt: int, output: int, blocks: tuple[int, ...] = ()
) -> TraceRequest:
    if type(prompt) is not int or type(output) is not int:
        raise TypeError("lengths must be whole numbers")
    if prompt < 1 or output < 1:
        raise ValueError("lengths must be at least 1 token")
    if blocks and len(blocks) * BLOCK_TOKENS < prompt:
        raise ValueError(f"{len(blocks)} blocks are too few for {prompt} tokens")
    return TraceRequest(arrival, prompt, output, blocks)
