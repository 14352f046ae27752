"""The checks of `e2e/vllm`, with engine simulators in the place of the engine."""

from dataclasses import replace

import pytest
from rich.console import Console

from e2e.continuity_suite.probed_prompts import ProbedPrompts
from e2e.continuity_suite.relay import broken_relay
from e2e.continuity_suite.targets import FAST
from e2e.continuity_suite.wire import Client
from e2e.local_service.engines import SimulatedEngine
from e2e.vllm_engine.checks import (
    SHORT,
    check_abort,
    check_continuity,
    check_contract,
    check_handovers,
)
from e2e.vllm_engine.handovers import chains
from e2e.vllm_engine.service import MODEL, WIDE_ENDS, real_service, serving_alone

ENGINE = SimulatedEngine({**FAST, "baseMs": 3.0}, ("--coalesce-percent", "5"))
SMALL = replace(SHORT, streams=1, leavers=5, only="kill|completion keeps its token ids")


@pytest.fixture
def out() -> Console:
    return Console(width=200, highlight=False, soft_wrap=True)


async def test_the_checks_pass_before_engines_that_answer_as_they_should(
    out: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    async with real_service(ENGINE, 2, apart=False) as real:
        prompts = ProbedPrompts(real.alone, MODEL)
        contract = await check_contract(real, False, out)
        handovers = await check_handovers(real, prompts, SMALL, out)
        abort = await check_abort(real, prompts, SMALL, out)
        continuity = await check_continuity(real, prompts, SMALL, out)
    said = capsys.readouterr().out
    # A simulator differs from a simulator in nothing, so all that is listed is gone.
    assert (contract.figures["found"], contract.passed) == ({}, False)
    assert "gone, but listed" in said
    assert handovers.passed, said
    assert set(range(1, 6)) <= set(handovers.figures["streams"]), said
    assert abort.passed, said
    assert continuity.passed, said
    assert "8 streams go on when an engine among theirs is killed" in said


async def test_streams_that_lose_a_token_on_the_way_are_told() -> None:
    with serving_alone(ENGINE) as engine:
        prompts = ProbedPrompts(engine.url, MODEL)
        async with broken_relay(engine.port, "drop") as relay:
            found = await chains(
                Client(relay), Client(engine.url), MODEL, prompts, WIDE_ENDS, each=1
            )  # fmt: skip
    assert found.missing == [1, 2, 3, 4, 5]
    assert len(found.differences) == sum(found.compared.values())
    assert not found.passed
