"""Tables of some counts: what they say about all of them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_planner.arrays import Array, Index
from cascade_planner.count_table import CountTable
from tests.planner.stage_costs import falling_tensors


@settings(deadline=None)
@given(falling_tensors(convex=False), st.floats(1e-3, 10))
def test_bounds_hold_and_refining_ends_at_the_cheapest_count(tensor: Array, price: float) -> None:
    rows = tensor[np.triu_indices(tensor.shape[0], 1)]
    stages, most = rows.shape

    def costs(stage: Index, counts: Array) -> Array:
        found: Array = rows[stage, counts.astype(np.intp) - 1]
        return found

    cheapest = (rows + price * np.arange(1, most + 1)).min(axis=1)
    prices = np.asarray([price])
    table = CountTable.coarse(costs, stages, most)
    while True:
        floor, doubtful = table.doubts(prices)
        assert (floor[0] <= cheapest * (1 + 1e-12)).all()
        if not len(doubtful):
            break
        table = table.refined(costs, doubtful)
    priced = table.priced(prices)
    assert np.allclose(table.cheapest(priced)[0], cheapest)
    for stage in range(stages):
        entry = table.cheapest_entry(priced[0], stage)
        assert table.stage[entry] == stage
        assert np.isclose(priced[0, entry], cheapest[stage])


def test_a_coarse_table_has_few_counts_and_both_ends() -> None:
    table = CountTable.coarse(lambda stage, counts: stage + 1 / counts, 2, 1000)
    assert len(table.counts) < 2 * 50
    assert table.starts.tolist() == [0, len(table.counts) // 2]
    assert table.counts[table.starts].tolist() == [1, 1]
    assert table.counts[-1] == 1000
