"""`cascade calibrate` as a process, and servers that are no engines."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CASCADE = [
    sys.executable,
    "-c",
    (
        "import signal, sys, cascade_cli.main as c; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(c.main())"
    ),
]
"""The command, as a process that hears Ctrl-C: what a shell starts in its background does not, nor
does what that starts."""


@asynccontextmanager
async def calibrating(url: str, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command as a process, ended with the block."""
    process = await asyncio.create_subprocess_exec(
        *CASCADE, "calibrate", "--url", url, *words, env=dict(os.environ),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextmanager
def server(pages: dict[str, tuple[int, str]]) -> Iterator[str]:
    """The address of an HTTP server with these pages (status, body); all others are 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = pages.get(self.path, (404, "not here"))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}"
        finally:
            http.shutdown()
            thread.join()
