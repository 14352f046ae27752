"""Made-up stage costs for the searches' tests."""

import numpy as np
from hypothesis import strategies as st

from cascade_planner.arrays import Array, Index
from cascade_planner.partition import StageCosts


def of_tensor(tensor: Array) -> StageCosts:
    """Costs that are read from [first, last, instances - 1]."""

    def costs(first: Index, last: Index, instances: Array) -> Array:
        found: Array = tensor[first, last, instances.astype(np.intp) - 1]
        return found

    return costs


@st.composite
def falling_tensors(draw: st.DrawFn, *, convex: bool) -> Array:
    """Costs that never grow with the count of instances: [first, last, instances - 1].

    Convex ones save less with each further instance; the others save by fits and starts.
    """
    cuts = draw(st.integers(1, 6))
    instances = draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = random.lognormal(
        sigma=draw(st.sampled_from([0.1, 1.0, 3.0])), size=(cuts + 1, cuts + 1)
    )
    savings = random.integers(0, 4, size=(cuts + 1, cuts + 1, instances)).astype(np.float64)
    if convex:
        savings = -np.sort(-savings * random.random(savings.shape), axis=2)
    # What is not saved yet, with all instances still a little.
    left = savings.sum(axis=2, keepdims=True) - np.cumsum(savings, axis=2) + 0.5
    tensor: Array = left * scale[:, :, None]
    first, last = np.tril_indices(cuts + 1)
    tensor[first, last] = np.inf
    return tensor
