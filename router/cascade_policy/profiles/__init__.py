"""Named engine models: the values of `spec.planning.costModel.profile`.

Each is a JSON file beside this one, which says where its coefficients come from, what was assumed
and what it has not measured. `python -m e2e.profiles` writes those of real GPUs.
"""

import json
from collections.abc import Iterator
from importlib import resources
from typing import Final

from cascade_policy.engine_model import EngineModel

_SUFFIX: Final = ".json"


class UnknownProfile(ValueError):
    """No profile of that name; the message lists the known ones."""


def profile(name: str) -> EngineModel:
    """The engine model called `name`. Raises UnknownProfile."""
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(sorted(PROFILES))
        raise UnknownProfile(
            f"cost model profile {name!r} is not known; use one of {known}"
        ) from None


def _packaged() -> Iterator[tuple[str, EngineModel]]:
    for file in resources.files(__name__).iterdir():
        if file.name.endswith(_SUFFIX):
            coefficients = json.loads(file.read_text(encoding="utf-8"))["coefficients"]
            yield file.name.removesuffix(_SUFFIX), EngineModel.from_json(coefficients)


PROFILES: Final = dict(sorted(_packaged()))
"""Every profile by its name."""
