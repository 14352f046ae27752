"""The reader of traces: formats, lines that cannot be read, and files that are none."""

import gzip
import io
import lzma
import math
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_cli import traces
from cascade_cli.traces import BadLine, InvalidTrace, TraceRequest

ROOT = Path(__file__).parents[2]
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
AZURE_LINE = "2023-11-16 18:15:46.6805900,374,44\n"
TWO = [TraceRequest(0.0, 5, 6), TraceRequest(1.5, 7, 8)]


def found(data: bytes) -> tuple[list[TraceRequest], list[BadLine]]:
    """Requests and bad lines of a file with this content."""
    bad: list[BadLine] = []
    return list(traces.requests(io.BytesIO(data), "FILE", bad.append)), bad


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            AZURE + "2023-11-16 18:15:46.6805900,5,6\n2023-11-16 18:15:48.1805900,7,8\n",
            id="Azure 2023, with seven decimals and no time zone",
        ),
        pytest.param(
            AZURE + "2024-05-10 00:00:00+00:00,5,6\n2024-05-10 00:00:01.500000+00:00,7,8\n",
            id="Azure 2024, with a time zone and sometimes no decimals",
        ),
        pytest.param(
            '{"timestamp": 27482, "input_length": 5, "output_length": 6, "hash_ids": []}\n'
            '{"timestamp": 28982, "input_length": 7, "output_length": 8}\n',
            id="Mooncake, with and without blocks",
        ),
        pytest.param("arrival,prompt,output\n3,5,6\n4.5,7,8\n", id="three columns with names"),
        pytest.param("3,5,6\n4.5,7,8", id="three columns without names or a last line end"),
        pytest.param("\ufeffArrival, Prompt, Output\r\n3, 5, 6\r\n4.5, 7, 8\r\n", id="from Excel"),
        pytest.param(
            '\n\n"arrival","prompt","output"\n"3","5","6"\n\n"4.5","7","8"\n', id="quoted"
        ),
        pytest.param("2024-05-10T00:00:00,5,6\n2024-05-10T00:00:01.5,7,8\n", id="dates, no names"),
    ],
)
@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(lambda data: data, id="plain"),
        pytest.param(gzip.compress, id="gzip"),
        pytest.param(lzma.compress, id="xz"),
    ],
)
def test_every_format_gives_the_same_requests(text: str, packed: object) -> None:
    assert callable(packed)
    assert found(packed(text.encode())) == (TWO, [])


@pytest.mark.parametrize("text", ["prompt,output\n5,6\n7,8\n", "5,6\n7,8\n"])
def test_two_columns_tell_lengths_and_no_times(text: str) -> None:
    rows, bad = found(text.encode())
    assert [(row.prompt_tokens, row.output_tokens) for row in rows] == [(5, 6), (7, 8)]
    assert all(math.isnan(row.arrival) for row in rows)
    assert not bad


def test_several_gzip_parts_one_after_the_other_are_one_file() -> None:
    assert found(gzip.compress(b"3,5,6\n") + gzip.compress(b"4.5,7,8\n")) == (TWO, [])


MOON = '{"timestamp": %s, "input_length": %s, "output_length": %s}'


@pytest.mark.parametrize(
    ("first", "line", "words"),
    [
        pytest.param("3,5,6", "x,7,8", "'x' is no time", id="a word for a time"),
        pytest.param("3,5,6", "nan,7,8", "time nan is out of range", id="no number for a time"),
        pytest.param("3,5,6", "inf,7,8", "time inf is out of range", id="an infinite time"),
        pytest.param("3,5,6", "1e300,7,8", "out of range", id="a time that cannot be"),
        pytest.param("3,5,6", "4,7", "expected the 3 fields", id="a column is missing"),
        pytest.param("3,5,6", "4,7,8,9", "expected the 3 fields", id="a column too many"),
        pytest.param("5,6", "4,7,8", "expected the 2 fields", id="times begin late"),
        pytest.param("3,5,6", "4,7.5,8", "'7.5' is no whole number", id="half a token"),
        pytest.param("3,5,6", "4,,8", "'' is no whole number", id="an empty length"),
        pytest.param("3,5,6", "4,0,8", "at least 1 token", id="an empty prompt"),
        pytest.param("3,5,6", "4,7,-8", "at least 1 token", id="a negative output"),
        pytest.param("3,5,6", "4,7,99999999", "at most 16777216", id="a length that cannot be"),
        pytest.param("3,5,6", "4,7," + "9" * 5000, "no whole number", id="thousands of digits"),
        pytest.param("3,5,6", '4,"7', "expected the 3 fields", id="an open quote"),
        pytest.param("3,5,6", "4,7,8\ud800", "no text in UTF-8", id="another encoding"),
        pytest.param("3,5,6", "4,7," + "8" * 2**20, "longer than 1048576", id="a line of a MiB"),
        pytest.param(MOON % (1, 2, 3), "{", "", id="half an object"),
        pytest.param(MOON % (1, 2, 3), "[1]", "expected a JSON object", id="a list"),
        pytest.param(MOON % (1, 2, 3), "[" * 5000, "", id="a deep list"),
        pytest.param(
            MOON % (1, 2, 3), '{"timestamp": 1}', "input_length is missing", id="no length"
        ),
        pytest.param(MOON % (1, 2, 3), MOON % (1, '"9"', 1), "whole numbers", id="length as text"),
        pytest.param(MOON % (1, 2, 3), MOON % (1, "true", 1), "whole numbers", id="a truth value"),
        pytest.param(MOON % (1, 2, 3), MOON % ("NaN", 9, 1), "out of range", id="NaN for a time"),
        pytest.param(MOON % (1, 2, 3), MOON % ('"1"', 9, 1), "timestamp must", id="time as text"),
        pytest.param(MOON % (1, 2, 3), MOON % ("1" * 400, 9, 1), "", id="a time of 400 digits"),
        pytest.param(
            MOON % (1, 2, 3),
            '{"timestamp": 1, "input_length": 513, "output_length": 1, "hash_ids": [1]}',
            "1 blocks are too few for 513 tokens",
            id="too few blocks",
        ),
        pytest.param(
            MOON % (1, 2, 3),
            '{"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": "abc"}',
            "hash_ids must be a list",
            id="blocks as text",
        ),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_used(first: str, line: str, words: str) -> None:
    text = f"{first}\n{line}\n{first}\n"
    rows, bad = found(text.encode("utf-8", "surrogatepass"))
    assert len(rows) == 2
    assert [one.number for one in bad] == [2]
    assert words in bad[0].problem
    assert len(str(bad[0])) < 400
    assert str(bad[0]).startswith("line 2: ")


def test_requests_may_come_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("10,5,6\n4,7,8\n8,9,1\n")
    rows = traces.read_trace(tmp_path / "mine.csv")
    assert [(row.arrival, row.prompt_tokens) for row in rows] == [(0, 7), (4, 9), (6, 5)]


def test_a_whole_trace_needs_times(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("5,6\n")
    with pytest.raises(InvalidTrace, match="no arrival times: give it three columns"):
        traces.read_trace(tmp_path / "mine.csv")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "holds no request; expected a CSV file", id="empty"),
        pytest.param(AZURE.encode(), "holds no request", id="a header alone"),
        pytest.param(b"x,1,2\ny,3,4\n", "holds no request", id="bad lines alone"),
        pytest.param(b"a,b,c\n1,2,3\n", "line 1 is 'a,b,c': no known header", id="other names"),
        pytest.param(b"\nhello\n", "line 2 is 'hello'", id="prose"),
        pytest.param(b"1,2,3,4\n", "no known header", id="four columns"),
        pytest.param(b"[1, 2]\n", "no known header", id="a JSON list"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "no text in UTF-8", id="an image"),
        pytest.param("1,2\n3,4\n".encode("utf-16"), "no text in UTF-8", id="UTF-16"),
        pytest.param(b"PK\x03\x04 zipped", "no known header", id="a zip archive"),
        pytest.param(gzip.compress(b"5,6\n" * 10_000)[:-12], "breaks off after", id="half a gzip"),
        pytest.param(lzma.compress(b"5,6\n" * 10_000)[:-12], "breaks off after", id="half an xz"),
        pytest.param(b"\x1f\x8bno gzip", "breaks off after 0 requests", id="a false gzip"),
        pytest.param(b"\xfd7zXZ\0no xz", "breaks off after 0 requests", id="a false xz"),
    ],
)
def test_what_is_no_trace_is_refused_with_what_to_do(data: bytes, words: str) -> None:
    with pytest.raises(InvalidTrace, match=words) as caught:
        found(data)
    assert str(caught.value).startswith("trace FILE")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidTrace, match=r"absent\.csv cannot be read .*check the path"):
        traces.read_trace(tmp_path / "absent.csv")
    with pytest.raises(InvalidTrace, match="Is a directory"):
        traces.read_trace(tmp_path)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_content_raises_anything_else(data: bytes) -> None:
    try:
        rows, _ = found(data)
    except InvalidTrace:
        return
    assert rows
    assert all(row.prompt_tokens >= 1 and row.output_tokens >= 1 for row in rows)


LINES = st.lists(
    st.text(alphabet='0123456789,.-+eE:TZ "{}[]nai\t', max_size=40), min_size=1, max_size=20
)
HEADS = st.sampled_from([AZURE, "prompt,output\n", "1,2,3\n", "1,2\n", MOON % (1, 2, 3) + "\n"])


@given(HEADS, LINES)
def test_every_line_is_a_request_or_a_bad_line(head: str, lines: list[str]) -> None:
    text = head + "1,2,3\n1,2\n" + MOON % (1, 2, 3) + "\n" + "\n".join(lines)
    rows, bad = found(text.encode())
    has_header = head[0] in "Tp"
    assert len(rows) + len(bad) == sum(1 for line in text.split("\n") if line.strip()) - has_header


class Endless(io.RawIOBase):
    """A file of so many lines, made as it is read."""

    def __init__(self, lines: int) -> None:
        self._parts: Iterator[bytes] = (b"%d,500,60\n" % line for line in range(lines))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        assert isinstance(buffer, memoryview)
        part = next(self._parts, b"")
        buffer[: len(part)] = part
        return len(part)


def test_memory_does_not_grow_with_the_trace() -> None:
    def peak(lines: int) -> int:
        tracemalloc.start()
        try:
            count = sum(1 for _ in traces.requests(io.BufferedReader(Endless(lines)), "FILE"))
            assert count == lines
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small = peak(2_000)
    assert peak(40_000) < small + 50_000


def test_the_reader_needs_the_standard_library_alone() -> None:
    code = "import sys; sys.path.insert(0, 'operator'); import cascade_cli.traces"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=ROOT, check=True)
