"""A mistake in a spec is refused at `kubectl apply`, in words that say what to do."""

from typing import Any

import pytest

from e2e.harness.kubectl import Kubectl, KubectlFailed
from e2e.harness.service import manifest

pytestmark = pytest.mark.cluster

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "a GPU count that instances cannot share": (
        {"gpuCount": 10, "gpusPerInstance": 4},
        "must be a multiple of spec.gpusPerInstance",
    ),
    "no GPU at all": ({"gpuCount": 0}, "greater than or equal to 1"),
    "boundaries that do not ascend": (
        {"planning": {"boundaries": [4096, 1024]}},
        "write the shortest length first",
    ),
    "a boundary beyond the model's length": (
        {"planning": {"boundaries": [1_000_000]}},
        "must be below spec.model.maxLength",
    ),
    "two cost models at once": (
        {
            "planning": {
                "costModel": {
                    "profile": "h100-8b",
                    "coefficients": {
                        "baseMs": 8, "perSequenceMs": 0.01, "perKvTokenMs": 0.00004,
                        "heterogeneity": 0, "prefillMsPerToken": 0.016,
                        "prefillMsPerTokenSquared": 0, "chunkTokens": 2048,
                        "kvCapacityTokens": 400000, "maxSequences": 256,
                    },
                }
            }
        },
        "profile",
    ),
    "a profile that does not exist": (
        {"planning": {"costModel": {"profile": "b200-8b"}}},
        "h100-8b",
    ),
    "an unknown routing mode": ({"routing": {"boundaries": "firm"}}, "soft"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_apply_refuses(namespace: Kubectl, case: str) -> None:
    spec, advice = CASES[case]

    with pytest.raises(KubectlFailed) as refused:
        namespace.apply(manifest("mistaken", **spec))

    assert advice in refused.value.stderr
    assert not namespace.items("cascadeservices")
