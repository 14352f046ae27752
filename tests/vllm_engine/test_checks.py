"""The checks of `e2e/vllm`, with engine simulators in the place of the engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from rich.console import Console

from e2e.continuity_suite.probed_prompts import ProbedPrompts
from e2e.continuity_suite.targets import FAST
from e2e.local_service.engines import SimulatedEngine
from e2e.vllm_engine.checks import (
    SHORT,
    check_abort,
    check_continuity,
    check_contract,
    check_handovers,
)
from e2e.vllm_engine.service import MODEL, Real, real_service

ENGINE = SimulatedEngine({**FAST, "baseMs": 3.0}, ("--coalesce-percent", "5"))
SMALL = replace(SHORT, streams=1, leavers=2, only="kill|completion keeps its token ids")


@pytest.fixture
def out() -> Console:
    return Console(width=200, highlight=False, soft_wrap=True)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Real, ProbedPrompts]]:
    async with real_service(ENGINE, 2, apart=False) as real:
        yield real, ProbedPrompts(real.alone, MODEL)


async def test_streams_are_handed_over_one_to_five_times_and_an_engine_is_killed(
    out: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served() as (real, prompts):
        handovers = await check_handovers(real, prompts, SMALL, out)
        abort = await check_abort(real, prompts, SMALL, out)
        continuity = await check_continuity(real, prompts, SMALL, out)
    said = capsys.readouterr().out
    assert handovers.passed, said
    assert set(range(1, 6)) <= set(handovers.figures["streams"]), said
    assert abort.passed, said
    assert continuity.passed, said
    assert "8 streams go on when an engine among theirs is killed" in said


async def test_the_contract_is_told_from_what_is_listed(
    out: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served() as (real, _):
        found = await check_contract(real, False, out)
    said = capsys.readouterr().out
    # A simulator differs from a simulator in nothing, so all that is listed is gone.
    assert found.figures["found"] == {}
    assert found.figures["new"] == {}
    assert "gone, but listed" in said or found.passed
