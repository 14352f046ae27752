"""Our router before engine simulators, judged by the suite that judges any router."""

from pathlib import Path

import pytest

from e2e.continuity_suite.judge import Verdict
from e2e.continuity_suite.prompts import SimulatorPrompts
from e2e.continuity_suite.suite import cases_for, model_of, verdicts
from tests.router.continuity.service import MAX_LENGTH, judged_service
from tests.router.core.cluster import MODEL
from tests.router.core.loop import on_uvloop

CASES = cases_for(SimulatorPrompts(), MAX_LENGTH)
GROUPS = list(dict.fromkeys(case.group for case in CASES))


@pytest.mark.parametrize("group", GROUPS)
@on_uvloop
async def test_every_case_passes(tmp_path: Path, group: str) -> None:
    async with judged_service(tmp_path) as (target, service):
        results = [result async for result in verdicts(target, MAX_LENGTH, f"^{group}:")]
        wrong = [
            f"{result.verdict}: {result.case.name}: {result.difference}"
            for result in results
            if result.verdict is not Verdict.PASSED
        ]
        assert wrong == []
        assert len(results) == sum(case.group == group for case in CASES)
        if group != "kill":
            await service.settle()
        if group == "positions":
            asked = sum(len(result.case.asks) for result in results)
            assert service.metric("cascade_handovers_total", outcome="completed") > asked


@on_uvloop
async def test_the_model_is_the_one_that_the_service_lists(tmp_path: Path) -> None:
    async with judged_service(tmp_path) as (target, _):
        assert await model_of(target.client, None) == (MODEL, MAX_LENGTH)


def test_names_of_cases_are_unique_sentences() -> None:
    names = [(case.group, case.name) for case in CASES]
    assert len(set(names)) == len(names)
