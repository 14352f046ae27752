"""Runs a test on the event loop that the router runs on."""

import functools
from collections.abc import Callable, Coroutine
from typing import ParamSpec

import uvloop

Arguments = ParamSpec("Arguments")


def on_uvloop(
    test: Callable[Arguments, Coroutine[object, object, None]],
) -> Callable[Arguments, None]:
    """Make a coroutine function a test of its own loop."""

    @functools.wraps(test)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        uvloop.run(test(*args, **kwargs))

    return run
