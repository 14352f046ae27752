"""The traces that come along, by name; the reader itself is tested with the command line."""

from pathlib import Path

import pytest

from cascade_cli.traces import BLOCK_TOKENS, InvalidTrace, TraceRequest
from e2e.traces.trace import read_trace


def test_the_azure_trace_has_its_published_size() -> None:
    rows = read_trace("azure")
    assert len(rows) == 19366
    assert rows[0] == TraceRequest(0.0, 374, 44)
    assert rows[1].arrival == pytest.approx(4.314579, abs=1e-6)
    assert sum(row.prompt_tokens for row in rows) / len(rows) == pytest.approx(1154.7, abs=0.1)


def test_the_mooncake_trace_tells_what_prompts_share() -> None:
    rows = read_trace("mooncake")
    assert len(rows) == 12031
    assert rows[0].blocks[0] == rows[1].blocks[0]
    assert all(len(row.blocks) * BLOCK_TOKENS >= row.prompt_tokens for row in rows)


def test_a_trace_must_be_whole(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("arrival,prompt,output\n0,5,6\n1,5\n2,5,6\n")
    with pytest.raises(InvalidTrace, match=r"mine\.csv line 3: .* correct the line or remove it"):
        read_trace(path)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidTrace, match=r"'azur' is no file .* one of azure, mooncake"):
        read_trace("azur")
