"""A suite that does not notice a broken router judges nothing: it fails on every fault."""

from urllib.parse import urlsplit

import pytest

from e2e.continuity_suite.judge import Judge, Result, Target, Verdict
from e2e.continuity_suite.prompts import SimulatorPrompts
from e2e.continuity_suite.relay import FAULTS, broken_relay
from e2e.continuity_suite.suite import cases_for
from e2e.continuity_suite.wire import Client
from tests.router.continuity.service import MAX_LENGTH, lone_engine
from tests.router.core.cluster import MODEL
from tests.router.core.loop import on_uvloop

SEEN_AS = {
    "drop": "character",
    "double": "character",
    "swap": "character",
    "cut-character": "\\ufffd",
    "new-id": "another id",
    "usage": "usage.completion_tokens",
    "role": "the role once more",
    "end": "character",
}
CASES = {case.name: case for case in cases_for(SimulatorPrompts(), MAX_LENGTH)}


async def judged(fault: str | None, *names: str) -> list[Result]:
    """The verdicts on a relay with this fault, or on an engine alone."""
    async with lone_engine() as engine:
        port = urlsplit(engine).port or 0
        if fault is None:
            judge = Judge(Target(Client(engine), MODEL, Client(engine)))
            return [await judge.judge(CASES[name]) for name in names]
        async with broken_relay(port, fault) as relay:
            judge = Judge(Target(Client(relay), MODEL, Client(engine)))
            return [await judge.judge(CASES[name]) for name in names]


COMPLETIONS = "completions rich in characters of several bytes keep their text"
CHATS = "chats rich in characters of several bytes keep their text"
IDS = "completions rich in characters of several bytes keep their ids"
USAGE = "a completion reports its usage once, over all instances, if asked to"


@pytest.mark.parametrize("fault", sorted(FAULTS))
@on_uvloop
async def test_each_fault_is_found_and_named(fault: str) -> None:
    name = {"role": CHATS, "usage": USAGE}.get(fault, COMPLETIONS)
    (result,) = await judged(fault, name)
    assert result.verdict is Verdict.FAILED
    assert SEEN_AS[fault] in result.difference


@pytest.mark.parametrize("fault", ["drop", "double", "swap"])
@on_uvloop
async def test_token_ids_are_named_where_they_were_asked_for(fault: str) -> None:
    (result,) = await judged(fault, IDS)
    assert result.difference.startswith("token ")


@on_uvloop
async def test_an_engine_alone_passes_what_each_relay_fails() -> None:
    results = await judged(None, COMPLETIONS, CHATS, IDS, USAGE)
    assert [result.verdict for result in results] == [Verdict.PASSED] * 4


def test_every_fault_is_tried() -> None:
    assert set(SEEN_AS) == set(FAULTS)
