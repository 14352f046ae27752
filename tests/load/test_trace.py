"""Traces: the two that come along, and what is said about lines that cannot be read."""

import gzip
from pathlib import Path

import pytest

from e2e.traces.trace import BLOCK_TOKENS, InvalidTrace, TraceRequest, read_trace

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
GOOD = "2023-11-16 18:15:46.6805900,374,44\n"


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


def test_requests_come_in_order_of_arrival_whatever_the_order_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv.gz"
    later = "2023-11-16 18:15:50.6805900,5,6\n"
    path.write_bytes(gzip.compress((HEADER + later + GOOD).encode()))
    assert [row.arrival for row in read_trace(path)] == [0.0, pytest.approx(4.0)]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        pytest.param("a.csv", "a,b,c\n" + GOOD, "line 1: the header", id="another header"),
        pytest.param("a.csv", HEADER + GOOD + "x,1,2\n", "line 3.*correct the line", id="time"),
        pytest.param("a.csv", HEADER + GOOD[:27] + ",3\n", "line 2", id="a column is missing"),
        pytest.param("a.csv", HEADER + GOOD[:27] + ",0,3\n", "at least 1 token", id="empty prompt"),
        pytest.param("a.csv", HEADER, "holds no request", id="only a header"),
        pytest.param("a.jsonl", '{"timestamp": 1}\n', "line 1.*input_length", id="no lengths"),
        pytest.param("a.jsonl", "\n[1]\n", "line 2", id="not an object"),
        pytest.param(
            "a.jsonl",
            '{"timestamp": 1, "input_length": 513, "output_length": 1, "hash_ids": [1]}',
            "1 blocks are too few",
            id="too few blocks",
        ),
        pytest.param(
            "a.jsonl",
            '{"timestamp": 1, "input_length": "9", "output_length": 1}',
            "whole numbers",
            id="a length as text",
        ),
        pytest.param("a.parquet", "", "use one of azure, mooncake", id="another format"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_to_do(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidTrace, match=words):
        read_trace(tmp_path / name)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidTrace, match=r"absent\.csv cannot be read"):
        read_trace(tmp_path / "absent.csv")
    (tmp_path / "broken.csv.xz").write_bytes(b"no archive")
    with pytest.raises(InvalidTrace, match="cannot be read"):
        read_trace(tmp_path / "broken.csv.xz")
