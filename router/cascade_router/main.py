"""The command `cascade-router`: one sidecar process."""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sys

import uvloop

from cascade_router import faults
from cascade_router.config import Config, InvalidConfig
from cascade_router.limits import Timing
from cascade_router.membership import Membership
from cascade_router.sidecar import Sidecar
from cascade_router.view_file import ViewFile

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_log = logging.getLogger(__name__)


def main() -> None:
    """Run until SIGTERM or SIGINT; exit status 2 for a wrong environment."""
    try:
        config, timing = Config.from_env(os.environ), Timing.from_env(os.environ)
    except (InvalidConfig, ValueError) as error:
        sys.exit(f"cascade-router: {error}")
    logging.basicConfig(level=config.log_level, format=LOG_FORMAT)
    _allow_many_files()
    gc.freeze()
    try:
        uvloop.run(serve(config, timing))
    except InvalidConfig as error:
        sys.exit(f"cascade-router: {error}")


async def serve(config: Config, timing: Timing) -> None:
    """Listen, follow the service, and leave in order when told to."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(faults.handle)
    # Debugging of the loop logs slow callbacks with what they were called with: prompts.
    loop.set_debug(False)
    sidecar = Sidecar(config, timing)
    await sidecar.start()
    following = asyncio.create_task(_follow(config, sidecar))
    try:
        await _told_to_stop(following)
        await sidecar.drain()
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await following
        await sidecar.stop()


async def _follow(config: Config, sidecar: Sidecar) -> None:
    """Keep the sidecar's view of the service current."""
    if config.view_file is None:
        await Membership(config, sidecar.use).run()
    else:
        await ViewFile(config.view_file, config.address, sidecar.use).run()


async def _told_to_stop(following: asyncio.Task[None]) -> None:
    """Wait for a signal. A watch that ended by an error ends the process: it restarts clean."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stopping = loop.create_task(stop.wait())
    await asyncio.wait({stopping, following}, return_when=asyncio.FIRST_COMPLETED)
    if stopping.done():
        return
    stopping.cancel()
    following.result()
    raise RuntimeError("the view of the service is no longer followed")


def _allow_many_files() -> None:
    """A socket per stream and side: take what the hard limit gives."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
