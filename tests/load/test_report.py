"""Figures and buckets of the report."""

from dataclasses import replace

import pytest

from e2e.load.options import InvalidOption, read_options
from e2e.load.report import Report, Timing, figures

TIMING = Timing(
    ended=1.0, prompt_tokens=300, output_tokens=10, ttft=20.0, tpot=2.0, e2e=40.0, measured=True
)


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert figures(values) == {"mean": 50.5, "p50": 50.0, "p90": 90.0, "p99": 99.0}
    assert figures([7.0]) == {"mean": 7.0, "p50": 7.0, "p90": 7.0, "p99": 7.0}
    assert figures([]) == {"mean": 0.0, "p50": 0.0, "p90": 0.0, "p99": 0.0}


def test_progress_looks_at_the_last_ten_seconds_and_the_summary_at_all() -> None:
    report = Report(sent=3)
    report.note_completed(TIMING)
    report.note_completed(replace(TIMING, ended=15.0, e2e=80.0, prompt_tokens=256))
    progress = report.progress(20.0)
    assert progress["latency"]["e2e"]["mean"] == 80
    assert progress["inFlight"] == 1
    summary = report.summary()
    assert summary["latency"]["e2e"]["mean"] == 60
    assert [bucket["upTo"] for bucket in summary["latencyByPromptTokens"]] == [256, 512]


def test_unstreamed_answers_have_an_end_to_end_time_only() -> None:
    report = Report(sent=1)
    report.note_completed(replace(TIMING, ttft=None, tpot=None))
    latency = report.summary()["latency"]
    assert (latency["ttft"]["mean"], latency["e2e"]["mean"]) == (0.0, 40.0)


def test_a_ramp_that_leaves_nothing_to_measure_is_refused() -> None:
    line = ["--url", "http://a", "--requests-per-second", "1", "--duration", "5"]
    assert read_options(line)[0].exclude_first == 0
    with pytest.raises(InvalidOption, match="make --duration longer"):
        read_options([*line, "--exclude-first", "5"])
