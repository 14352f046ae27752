"""The choice between the searches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_planner import bundles, min_plus
from cascade_planner.arrays import Array, Index
from cascade_planner.partition import StageCosts
from cascade_planner.solver import Solver, best_partitions
from tests.planner.stage_costs import falling_tensors, of_tensor

CUTS = 12
STAGE_COUNTS = range(1, 9)


def by_marginal_gain(first: Index, last: Index, instances: Array) -> Array:
    """Each instance more saves less than the one before."""
    work = (last - first) ** 1.5
    costs: Array = work * (1 + work / instances)
    return costs


def all_or_nothing(first: Index, last: Index, instances: Array) -> Array:
    """A stage saves nothing until it has the instances that its work needs."""
    work = 40.0 * (last - first)
    costs: Array = np.where(instances >= work, 1.0, 2.0) * work**1.1
    return costs


@pytest.mark.parametrize(
    ("costs", "instances", "solver"),
    [
        pytest.param(
            by_marginal_gain, 16, Solver.MIN_PLUS, id="few instances are searched exactly"
        ),
        pytest.param(
            by_marginal_gain, 1000, Solver.PRICE_SEARCH, id="many instances are searched by price"
        ),
        pytest.param(
            all_or_nothing,
            200,
            Solver.MIN_PLUS,
            id="where a price proves too little, the exact search if it is affordable",
        ),
        pytest.param(
            all_or_nothing,
            470,
            Solver.BUNDLES,
            id="and bundles of instances if it is not",
        ),
    ],
)
def test_the_search_is(costs: StageCosts, instances: int, solver: Solver) -> None:
    search = best_partitions(costs, CUTS, instances, STAGE_COUNTS)
    assert search.solver is solver
    tensor = min_plus.cost_tensor(costs, CUTS, instances)
    exact = min_plus.best_partitions(tensor, STAGE_COUNTS)
    best = min(one.cost for one in exact)
    assert min(one.at_least for one in search.solutions) <= best * (1 + 1e-9)
    assert best * (1 - 1e-9) <= min(one.cost for one in search.solutions) <= best * 1.02


@settings(deadline=None)
@given(falling_tensors(convex=False), st.integers(2, 5))
def test_bundles_make_partitions_of_all_instances(tensor: Array, size: int) -> None:
    cuts, instances = tensor.shape[0] - 1, tensor.shape[2]
    size = min(size, instances)
    found = bundles.best_partitions(of_tensor(tensor), cuts, instances, STAGE_COUNTS, size)
    exact = {len(one.cuts): one for one in min_plus.best_partitions(tensor, STAGE_COUNTS)}
    assert len(found) == min(cuts, instances // size, 8)
    for one in found:
        assert sum(one.instances) == instances
        starts = (0, *one.cuts[:-1])
        stages = zip(starts, one.cuts, one.instances, strict=True)
        total = sum(tensor[start, end, count - 1] for start, end, count in stages)
        assert one.cost == pytest.approx(float(total))
        assert one.cost >= exact[len(one.cuts)].cost * (1 - 1e-9)
