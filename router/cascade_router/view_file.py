"""The view of the service from a file: for a router outside of Kubernetes.

`{"stageMap": {...}, "members": [{"name", "address", "stage"}, ...]}`, where `stageMap` is what the
operator writes into its ConfigMap. The file is read again when it changes; one that cannot be read
leaves the last view in force, as everywhere.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cascade_policy.stage_map import InvalidStageMap, StageMap
from cascade_router.endpoints import Member
from cascade_router.membership import View

CHECK_SECONDS: Final = 0.2

_log = logging.getLogger(__name__)


class InvalidView(ValueError):
    """The text is no view; the message says what is wrong with it."""


def read_view(text: str, own_address: str) -> View:
    """The view that `text` describes, for the router at `own_address`. Raises InvalidView."""
    try:
        data = json.loads(text)
        stage_map = StageMap.loads(json.dumps(data["stageMap"]))
        members = tuple(_member(item) for item in data["members"])
    except InvalidStageMap as error:
        raise InvalidView(f"stageMap: {error}") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidView(
            f"expected {{stageMap, members: [{{name, address, stage}}]}}: {error!r}"
        ) from None
    own = next((member.stage for member in members if member.address == own_address), None)
    return View(stage_map, members, own)


def _member(item: Any) -> Member:
    return Member(str(item["name"]), str(item["address"]), int(item["stage"]))


class ViewFile:
    """Keeps the view as its file says, and calls `on_view` after every change."""

    def __init__(self, path: Path, own_address: str, on_view: Callable[[View], None]) -> None:
        self._path = path
        self._own_address = own_address
        self._on_view = on_view
        self._text: str | None = None

    async def run(self) -> None:
        """Look at the file until cancelled."""
        while True:
            self._look()
            await asyncio.sleep(CHECK_SECONDS)

    def _look(self) -> None:
        try:
            text = self._path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            text = f"{type(error).__name__}"
        if text == self._text:
            return
        self._text = text
        try:
            view = read_view(text, self._own_address)
        except InvalidView as error:
            _log.warning("view file %s: %s; the last view stays in force", self._path, error)
        else:
            self._on_view(view)
