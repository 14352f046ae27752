"""Channels end by silence, and by nothing that only looks like it."""

from pathlib import Path

import pytest

from cascade_router import limits
from e2e.engine_simulator.next_token import expected_output
from tests.router.core.cluster import cluster, stage_map, stream
from tests.router.core.loop import on_uvloop


@pytest.mark.parametrize("fields", [{}, {"stop": ["~~~"]}], ids=["resumable", "pinned"])
@on_uvloop
async def test_a_front_that_only_listens_is_not_taken_for_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object]
) -> None:
    """One long stream, and nothing else that the front would say to its target."""
    monkeypatch.setattr(limits, "CHANNEL_SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(limits, "CHANNEL_PING_SECONDS", 0.2)
    monkeypatch.setattr(limits, "SWEEP_SECONDS", 0.1)
    async with cluster(tmp_path, [0, 0], stage_map(), coefficients={"baseMs": 40.0}) as service:
        service.publish(without=[service[0]])
        body = {"prompt": [300, 301], "max_tokens": 80, "ignore_eos": True, **fields}
        got = await stream(service[0].url, "/v1/completions", body)
        want = expected_output([300, 301], 80, ignore_eos=True)
        assert got.headers["x-cascade-instance"] == service[1].name
        assert (got.text, got.errors) == (want.text, [])
        assert service.metric("cascade_rescues_total") == 0
