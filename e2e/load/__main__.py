"""`python3 -m e2e.load`: replay, one JSON record per line; SIGTERM ends the sending."""

import asyncio
import json
import signal
import sys

import uvloop

from cascade_cli.traces import InvalidTrace
from e2e.load.options import InvalidOption, Options, read_options
from e2e.load.replay import Emit, EndpointUnusable, replay
from e2e.load.report import JsonObject
from e2e.load.schedule import InvalidSlice


def main() -> None:
    """Replay. Status 1: something was lost or wrong, or nothing was sent; 2: it cannot begin."""
    try:
        options, output = read_options(sys.argv[1:])
        summary = uvloop.run(_run(options, _ndjson if output == "ndjson" else _text))
    except (InvalidOption, InvalidTrace, InvalidSlice, EndpointUnusable, ValueError) as error:
        print(f"load: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if summary["requestsLost"] or summary["streamsWrong"] or not summary["requestsSent"]:
        raise SystemExit(1)


async def _run(options: Options, emit: Emit) -> JsonObject:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await replay(options, emit, stop)


def _ndjson(record: JsonObject) -> None:
    print(json.dumps(record, separators=(",", ":")), flush=True)


def _text(record: JsonObject) -> None:
    if record["kind"] == "progress":
        names = ("sent", "completed", "inFlight", "lost", "wrong", "handovers", "retries")
        words = "  ".join(f"{name} {record[name]}" for name in names)
        print(f"{record['elapsed']:6.0f} s  {words}", flush=True)
    else:
        print(json.dumps(record, indent=2), flush=True)


if __name__ == "__main__":
    main()
