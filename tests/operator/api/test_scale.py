"""A short run of the bench of the operator at scale."""

import pytest

from e2e.bench.operator_bench.experiments import Experiment, measure
from e2e.bench.operator_bench.goals import REST
from e2e.cluster import ApiServer, Progress

pytestmark = pytest.mark.api_server

SERVICES = 5
RESYNCS = 4


async def test_settled_services_are_looked_at_again_and_again_and_never_written_to(
    api_server: ApiServer, say: Progress
) -> None:
    experiment = Experiment(
        name="settled",
        services=SERVICES,
        instances=4,
        rest_seconds=RESYNCS + 2,
        moves=0,
        interval_seconds=5,
        resync_seconds=1,
    )
    outcome = await measure(experiment, api_server, say)
    rest = outcome.phase(REST)
    assert rest is not None
    assert rest.passes >= SERVICES * RESYNCS
    assert (rest.writes, rest.failed, rest.moved, outcome.ended) == (0, 0, 0, 0)
    assert rest.requests_per_minute["list"] > 0
