"""`cascade simulate` from the command line to its table, JSON and report."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cascade_cli.errors import BadInput
from cascade_cli.scenario import Pace, Scenario, is_length_blind, make_workload, run_scenario
from cascade_cli.simulate_command import add_arguments, run
from cascade_cli.simulate_options import links, loads, policies
from cascade_cli.traces import TraceRequest
from cascade_simulator.policies.registry import NAMES
from cascade_simulator.policy import Transport
from cascade_simulator.workloads import InvalidWorkload, utilisation
from tests.conftest import Golden

HERE = Path(__file__).parent


def parsed(options: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(options)


def shape(value: Any) -> Any:
    """JSON with kinds instead of values: what programs rely on."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) else type(value).__name__


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Two hundred requests, ten of them long, over a minute and a half."""
    path = tmp_path / "requests.csv"
    rows = [
        f"{number * 0.45},{8000 if number % 20 == 0 else 300 + number},{20 + number % 50}"
        for number in range(200)
    ]
    path.write_text("arrival,prompt,output\n" + "\n".join(rows) + "\n")
    return path


def test_two_hundred_requests_give_a_table_json_and_a_report(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], golden: Golden
) -> None:
    report, figures = tmp_path / "report.html", tmp_path / "figures.json"

    status = run(
        parsed(
            [
                *("--trace", str(trace), "--gpus", "4", "--requests", "200"),
                *("--policies", "round-robin,least-work,cascade+handover"),
                *("--load", ".8,.5", "--seeds", "2", "--jobs", "1"),
                *("--report", str(report), "--json", str(figures)),
            ]
        )
    )

    assert status == 0
    shown = capsys.readouterr().out
    assert shown.index("load 0.5") < shown.index("load 0.8")
    assert all(name in shown for name in ("round-robin", "least-work", "cascade+handover"))
    assert "h100-8b" in shown
    found = json.loads(figures.read_text())
    golden(HERE / "golden" / "simulate-shape.json", json.dumps(shape(found), indent=1) + "\n")
    assert [(row["load"], row["policy"]) for row in found["results"]] == [
        (load, policy)
        for load in (0.5, 0.8)
        for policy in ("round-robin", "least-work", "cascade+handover")
    ]
    assert all(row["unfinishedPerRun"] == 0 for row in found["results"])
    assert all(row["e2eMeanMs"] > row["ttftMeanMs"] > 0 for row in found["results"])
    assert "<h2>Throughput at the targets</h2>" in report.read_text()


def test_processes_give_what_one_process_gives(trace: Path, tmp_path: Path) -> None:
    found = []
    for jobs in ("1", "2"):
        path = tmp_path / f"{jobs}.json"
        options = ["--trace", str(trace), "--gpus", "2", "--requests", "100", "--jobs", jobs]
        run(parsed([*options, "--policies", "random,least-work", "--json", str(path)]))
        found.append(path.read_text())
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("requests", "warned"), [("40", True), ("3000", False)], ids=["a short run", "a long run"]
)
def test_a_run_too_short_to_settle_is_told(
    trace: Path, requests: str, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--trace", str(trace), "--gpus", "1", "--policies", "random", "--load", "0.4"]

    run(parsed([*options, "--requests", requests]))

    assert ("raise --requests" in capsys.readouterr().err) == warned


def test_requests_that_no_engine_can_hold_are_left_out_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "requests.csv"
    path.write_text("prompt,output\n" + "100,10\n" * 50 + "10000000,10\nnonsense,1\n")

    status = run(
        parsed(["--trace", str(path), "--gpus", "2", "--requests", "50", "--policies", "random"])
    )

    assert status == 0
    told = capsys.readouterr().err
    assert "1 requests are longer" in told
    assert "line 53" in told


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("prompt,output\n10000000,10\n", [], "longer than"),
        ("prompt,output\n100,10\n", ["--workload", "drifting"], "arrival times"),
        ("0,100,10\n0,100,10\n", ["--workload", "compressed"], "arrive at once"),
    ],
    ids=["nothing fits", "drift without times", "all at once"],
)
def test_a_trace_that_cannot_be_used_ends_with_the_reason(
    tmp_path: Path, content: str, options: list[str], words: str
) -> None:
    path = tmp_path / "requests.csv"
    path.write_text(content)

    with pytest.raises(BadInput, match=words):
        run(parsed(["--trace", str(path), "--gpus", "2", *options]))


def test_a_file_that_cannot_be_written_ends_with_the_reason(trace: Path, tmp_path: Path) -> None:
    options = ["--trace", str(trace), "--gpus", "2", "--requests", "20", "--policies", "random"]

    with pytest.raises(BadInput, match="--report"):
        run(parsed([*options, "--report", str(tmp_path / "no" / "report.html")]))


@pytest.mark.parametrize(
    "options",
    [
        ["--policies", "least-work,nonsense"],
        ["--load", "0.5,x"],
        ["--load", "0"],
        ["--transport", "warm:25"],
        ["--transport", "copy:0"],
        ["--heterogeneity", "-1"],
        ["--workload", "wild"],
    ],
    ids=lambda options: " ".join(options),
)
def test_an_option_without_meaning_is_refused(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(["--trace", "any", "--gpus", "2", *options])

    assert ended.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_lists_name_each_value_once() -> None:
    assert loads(".7,.3,0.7") == (0.3, 0.7)
    assert policies("random, least-work,random") == ("random", "least-work")


def test_a_transport_carries_its_bandwidth() -> None:
    assert links("warm").transport is Transport.WARM
    assert (links("copy:2.5").transport, links("copy:2.5").bytes_per_ms) == (Transport.COPY, 2.5e6)


def test_only_what_ignores_lengths_is_blind_to_them() -> None:
    blind = {name for name in NAMES if is_length_blind(name)}

    assert {"round-robin", "least-work", "least-work+prefix", "llumnix", "sticky"} <= blind
    assert not any("cascade" in name or "price" in name or "+handover" in name for name in blind)


ROWS = [
    TraceRequest(number * 2.0, 500 + 37 * (number % 90), 50 + number % 200) for number in range(900)
]


@pytest.mark.parametrize("pace", list(Pace))
def test_a_workload_has_the_load_that_was_asked_for(pace: Pace) -> None:
    scenario = Scenario("random", load=0.6, pace=pace, requests=800, instances=2)

    workload = make_workload(scenario, ROWS)

    minutes = math.ceil(workload.duration_ms / 60_000) * 60_000
    span = minutes if pace is Pace.DRIFTING else workload.duration_ms
    engine = scenario.engine
    assert utilisation(workload.requests, engine, 2, span) == pytest.approx(0.6, rel=0.15)
    # A drift takes whole minutes, and so many of these short requests pass in one.
    assert pace is Pace.DRIFTING or len(workload.requests) == 800


def test_a_seed_gives_the_same_run_again_and_another_one_another() -> None:
    first, again, other = (
        run_scenario(scenario, make_workload(scenario, ROWS))
        for scenario in (
            Scenario("random", seed=seed, requests=150, instances=2) for seed in (1, 1, 2)
        )
    )

    assert (first.end_ms == again.end_ms).all()
    assert (first.end_ms != other.end_ms).any()


def test_a_drift_needs_times() -> None:
    untimed = [TraceRequest(math.nan, 100, 10)]

    assert make_workload(Scenario("random", requests=5), untimed).requests
    with pytest.raises(InvalidWorkload, match="arrival times"):
        make_workload(Scenario("random", pace=Pace.DRIFTING), untimed)


def test_policies_may_believe_in_another_engine() -> None:
    scenario = Scenario("random", heterogeneity=0.25, believed=(("per_kv_token_ms", 2.0),))

    assert scenario.true_engine.heterogeneity == 0.25
    assert scenario.believed_engine.heterogeneity == 0.25
    assert scenario.believed_engine.per_kv_token_ms == 2 * scenario.engine.per_kv_token_ms
