"""The arrays that everything here computes with."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.intp]
"""Positions in another array."""
