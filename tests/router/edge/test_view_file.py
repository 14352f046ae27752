"""A view from a file: read, followed, and kept when the file turns bad."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cascade_router.endpoints import Member
from cascade_router.membership import View
from cascade_router.view_file import InvalidView, ViewFile, read_view
from tests.router.core.cluster import stage_map, until

OWN = "127.0.0.1:8000"


def view_text(stage: int = 0, **changes: Any) -> str:
    members = [{"name": "a", "address": OWN, "stage": stage}]
    return json.dumps(
        {"stageMap": json.loads(stage_map(100).dumps()), "members": members, **changes}
    )


def test_members_stage_map_and_the_own_stage_are_read() -> None:
    assert read_view(view_text(1), OWN) == View(stage_map(100), (Member("a", OWN, 1),), 1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("{", "expected", id="no JSON"),
        pytest.param("[]", "expected", id="no object"),
        pytest.param("[" * 100_000, "expected", id="lists without end"),
        pytest.param(
            view_text(members=[{"name": "a", "address": OWN, "stage": float("inf")}]),
            "expected",
            id="a stage that is no number",
        ),
        pytest.param(view_text(members=[{"name": "a"}]), "address", id="a member without address"),
        pytest.param(view_text(stageMap={}), "stageMap: ", id="no stage map"),
    ],
)
def test_what_is_no_view_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(InvalidView, match=problem):
        read_view(text, OWN)


async def test_changes_are_followed_and_a_bad_file_keeps_the_last_view(tmp_path: Path) -> None:
    path, seen = tmp_path / "view.json", list[View]()
    following = asyncio.create_task(ViewFile(path, OWN, seen.append).run())
    path.write_text(view_text(0))
    await until(lambda: len(seen) == 1, "the first view")
    path.write_text("no view at all")
    await asyncio.sleep(0)
    path.write_text(view_text(1))
    await until(lambda: len(seen) == 2, "the view after the change")
    following.cancel()
    assert [view.own_stage for view in seen] == [0, 1]
