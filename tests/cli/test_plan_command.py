"""`cascade plan` from its words to what it prints, and to its exit status."""

import io
import json
import lzma
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cascade_cli.traces import requests
from tests.cli.command import Cascade, runner
from tests.conftest import Golden

HERE = Path(__file__).parent


@pytest.fixture
def cascade(capsys: pytest.CaptureFixture[str]) -> Cascade:
    return runner(capsys)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long and short requests, two a second."""
    draw = random.Random(7)
    path = tmp_path_factory.mktemp("traces") / "mine.csv.xz"
    lines = ["arrival,prompt,output"]
    for place in range(2000):
        prompt = min(30_000, round(draw.lognormvariate(7.5, 1.2)) + 1)
        lines.append(f"{place / 2},{prompt},{round(draw.lognormvariate(5, 0.8)) + 1}")
    path.write_bytes(lzma.compress("\n".join(lines).encode()))
    return path


def answer(cascade: Cascade, *words: object) -> dict[str, Any]:
    said = cascade("plan", "--json", *words)
    assert said.status == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


def shape(value: Any) -> Any:
    """JSON with kinds instead of values: what scripts rely on."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) else type(value).__name__


def test_the_answer_for_people_has_every_part(cascade: Cascade, trace: Path) -> None:
    said = cascade("plan", "--trace", trace, "--gpus", 8, "--load", 0.7, "--explain")
    assert said.status == 0
    assert not said.err
    for words in (
        "2,000 requests in 16.7 min, 2.001 a second, from",
        "8 instances, h100-8b (8B class: Llama-3.1-8B, bf16, NVIDIA H100 SXM 80 GB)",
        "this traffic is load 0.70",
        "lower than with one stage",
        "one stage",
        "this plan",
        "the best plan for each number of stages",
        "runner-up",
        "Cost is the mean number of requests in the system",
        "`cascade simulate`",
    ):
        assert words in " ".join(said.out.split())


@pytest.mark.parametrize("columns", [80, 120])
def test_text_fits_the_terminal_and_is_plain_in_a_file(
    cascade: Cascade, trace: Path, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said = cascade("plan", "--trace", trace, "--gpus", 64, "--load", 0.9, "--explain")
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= columns
    assert all(line == line.rstrip() for line in lines)
    assert "\x1b" not in said.out
    assert "…" not in said.out


@pytest.mark.parametrize("columns", [40, 60])
def test_a_narrow_terminal_cuts_no_number(
    cascade: Cascade, trace: Path, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    said = cascade("plan", "--trace", trace, "--gpus", 64, "--load", 0.9, "--explain")
    assert "…" not in said.out
    assert "64 instances" in " ".join(said.out.split())


def test_colours_are_for_terminals_without_no_color(
    cascade: Cascade, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("plan", "--trace", trace, "--gpus", 8, "--load", 0.7)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[3" in cascade(*words).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in cascade(*words).out


def test_the_json_has_its_shape(cascade: Cascade, trace: Path, golden: Golden) -> None:
    found = answer(cascade, "--trace", trace, "--gpus", 8, "--load", 0.7)
    golden(HERE / "golden" / "plan.json", json.dumps(shape(found), indent=2) + "\n")


def test_the_json_says_what_was_planned(cascade: Cascade, trace: Path) -> None:
    found = answer(cascade, "--trace", trace, "--gpus", 8, "--load", 0.7)
    assert found["source"] == {
        "kind": "trace",
        "name": str(trace),
        "origin": "",
        "requests": 2000,
        "seconds": 999.5,
    }
    assert found["traffic"]["load"] == pytest.approx(0.7)
    stages = found["plan"]["stages"]
    assert sum(stage["instances"] for stage in stages) == 8
    assert stages[-1]["maxLength"] == found["pool"]["maxLength"] == 32_768
    assert found["plan"]["cost"] <= found["oneStage"]["cost"]
    costs = [one["cost"] for one in found["bestByStageCount"]]
    assert min(costs) == found["plan"]["cost"]
    assert costs[0] == found["oneStage"]["cost"]


def test_another_level_of_the_traffic_scales_rates_and_nothing_else(
    cascade: Cascade, trace: Path
) -> None:
    words = ("--trace", trace, "--gpus", 8)
    seen = answer(cascade, *words)["traffic"]
    twice = answer(cascade, *words, "--speed", 2)["traffic"]
    ten = answer(cascade, *words, "--rate", 10)["traffic"]
    half = answer(cascade, *words, "--load", 0.5)["traffic"]
    assert twice["requestsPerSecond"] == pytest.approx(2 * seen["requestsPerSecond"])
    assert twice["load"] == pytest.approx(2 * seen["load"])
    assert ten["requestsPerSecond"] == pytest.approx(10)
    assert half["load"] == pytest.approx(0.5)
    assert twice["promptTokens"] == ten["promptTokens"] == half["promptTokens"]


def test_boundaries_stages_and_transport_are_obeyed(cascade: Cascade, trace: Path) -> None:
    words = ("--trace", trace, "--gpus", 8, "--load", 0.7)
    fixed = answer(cascade, *words, "--boundaries", "1000,9000")["plan"]["stages"]
    assert [stage["maxLength"] for stage in fixed] == [1000, 9000, 32_768]
    assert len(answer(cascade, *words, "--max-stages", 1)["plan"]["stages"]) == 1
    copied = answer(cascade, *words, "--boundaries", "2000", "--transport", "copy:25")
    anew = answer(cascade, *words, "--boundaries", "2000")
    assert copied["plan"]["cost"] < anew["plan"]["cost"]


def test_instances_are_of_as_many_gpus_as_the_profile_says(cascade: Cascade, trace: Path) -> None:
    found = answer(cascade, "--trace", trace, "--gpus", 19, "--profile", "h100-70b")
    assert (found["pool"]["instances"], found["pool"]["gpusPerInstance"]) == (4, 4)
    assert found["notes"] == ["3 of 19 GPUs make no instance of 4."]
    found = answer(cascade, "--trace", trace, "--gpus", 16, "--gpus-per-instance", 2)
    assert found["pool"]["instances"] == 8
    assert "is of 1 GPU per instance, not 2" in found["notes"][0]


def test_coefficients_of_ones_own_are_used(cascade: Cascade, trace: Path, tmp_path: Path) -> None:
    coefficients = answer(cascade, "--trace", trace, "--gpus", 4)["pool"]["coefficients"]
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(coefficients | {"baseMs": 30.0}))
    found = answer(cascade, "--trace", trace, "--gpus", 4, "--cost-model", mine)
    assert found["pool"]["coefficients"]["baseMs"] == 30.0
    assert found["oneStage"]["predicted"]["tpotMs"] > 30.0


def test_a_profile_of_ones_own_says_how_many_gpus_an_instance_takes(
    cascade: Cascade, trace: Path, tmp_path: Path
) -> None:
    profile = json.loads(cascade("profiles", "--json").out)["h100-70b"]
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(profile))
    found = answer(cascade, "--trace", trace, "--gpus", 16, "--cost-model", mine)
    assert found["pool"]["instances"] == 4
    mine.write_text(json.dumps(profile | {"gpusPerInstance": 0}))
    said = cascade("plan", "--trace", trace, "--gpus", 16, "--cost-model", mine)
    assert (said.status, said.out) == (2, "")
    assert "gpusPerInstance is no whole number above 0" in said.err


def test_sequences_that_no_kv_cache_holds_are_noted(cascade: Cascade, trace: Path) -> None:
    found = answer(cascade, "--trace", trace, "--gpus", 8, "--max-length", 1_000_000)
    assert found["notes"][0].startswith("No instance holds a sequence of 1,000,000 tokens")


def test_more_than_the_pool_can_do_is_said_with_what_would_help(
    cascade: Cascade, trace: Path
) -> None:
    found = answer(cascade, "--trace", trace, "--gpus", 4, "--load", 2)
    assert "Stability" in found["binding"]
    assert "delays would grow without end" in found["advice"][0]
    assert "at least 10 GPUs" in found["advice"][0]


def test_boundaries_that_overload_a_stage_are_to_blame_and_not_the_gpus(
    cascade: Cascade, trace: Path
) -> None:
    words = ("--trace", trace, "--gpus", 8, "--load", 0.7, "--boundaries", "100,200,300")
    found = answer(cascade, *words)
    assert "Stability" in found["binding"]
    assert "GPUs" not in found["advice"][0]
    assert "set by hand" in found["advice"][-1]


def test_one_instance_has_nothing_to_split(cascade: Cascade, trace: Path) -> None:
    said = cascade("plan", "--trace", trace, "--gpus", 1)
    assert "no split is predicted to pay" in said.out
    assert "none can be split (more instances)" in " ".join(said.out.split())


def test_bad_lines_are_shown_counted_and_left_out(cascade: Cascade, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("".join(f"{i},100,10\n" if i % 20 else "oops\n" for i in range(200)))
    said = cascade("plan", "--trace", path, "--gpus", 2)
    told = said.err.splitlines()
    assert told[0].startswith("cascade: trace")
    said = cascade("plan", "--trace", _after_a_good_line(path), "--gpus", 2)
    assert said.status == 0
    told = said.err.splitlines()
    assert len(told) == 6
    assert (
        told[0]
        == "cascade: line 2: 'oops' is no request (expected the 3 fields arrival,prompt,output)"
    )
    assert told[-1] == "cascade: ... and 5 more lines that are no requests"
    assert "10 lines are no requests and left out." in said.out
    assert "191 requests" in said.out


def _after_a_good_line(path: Path) -> Path:
    path.write_text("0,100,10\n" + path.read_text())
    return path


def test_a_trace_may_come_from_standard_input(
    cascade: Cascade, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(trace.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    found = answer(cascade, "--trace", "-", "--gpus", 8)
    assert found["source"]["requests"] == 2000
    assert found["source"]["name"] == "standard input"


def test_longer_requests_than_the_model_takes_are_left_out_and_counted(
    cascade: Cascade, trace: Path
) -> None:
    with trace.open("rb") as raw:
        longer = sum(row.prompt_tokens + row.output_tokens > 4000 for row in requests(raw, "FILE"))
    found = answer(cascade, "--trace", trace, "--gpus", 8, "--max-length", 4000)
    assert found["source"]["requests"] == 2000 - longer
    assert found["notes"] == [f"{longer} requests are longer than 4,000 tokens and left out."]


def test_without_times_the_rate_must_be_given(cascade: Cascade, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("prompt,output\n" + "100,10\n" * 150)
    said = cascade("plan", "--trace", path, "--gpus", 2)
    assert said.status == 2
    assert "say how much traffic there is with --rate or --load" in said.err
    found = answer(cascade, "--trace", path, "--gpus", 2, "--rate", 3)
    assert found["traffic"]["requestsPerSecond"] == pytest.approx(3)
    assert found["source"]["seconds"] is None


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        pytest.param(["--trace", "absent.csv"], 2, "cannot be read", id="no such trace"),
        pytest.param(["--trace", "TRACE", "--profile", "abacus"], 2, "use one of", id="profile"),
        pytest.param(["--trace", "TRACE", "--seconds", "5"], 2, "--histogram", id="idle option"),
        pytest.param(["--trace", "TRACE", "--model", "m"], 2, "--prometheus or", id="idle model"),
        pytest.param(["--trace", "TRACE", "--boundaries", "99999"], 2, "not below", id="boundary"),
        pytest.param(
            ["--trace", "TRACE", "--boundaries", "1,2,3,4,5,6,7,8"], 2, "too few", id="boundaries"
        ),
        pytest.param(["--trace", "TRACE", "--max-length", "2"], 2, "raise --max-length", id="long"),
        pytest.param(["--trace", "TRACE", "--cost-model", "no"], 2, "cannot be", id="no model"),
        pytest.param(["--trace", "TRACE", "--cost-model", "TEXT"], 2, "no JSON", id="no JSON"),
        pytest.param(["--trace", "TRACE", "--cost-model", "JSON"], 2, "baseMs", id="empty model"),
        pytest.param(["--trace", "TRACE", "--rate", "1", "--load", "1"], 2, "not allow", id="two"),
        pytest.param(["--trace", "TRACE", "--load", "1e300"], 2, "lower --rate", id="much load"),
        pytest.param(["--trace", "TRACE", "--gpus", "9" * 20], 2, "give fewer", id="many GPUs"),
        pytest.param(
            ["--trace", "TRACE", "--boundaries", "9", "--max-stages", "2"], 2, "leave", id="both"
        ),
        pytest.param(["--trace", "TRACE", "--cost-model", "ENDLESS"], 2, "finite", id="endless"),
        pytest.param([], 2, "one of the arguments", id="no source"),
        pytest.param(["--trace", "FEW"], 3, "50 requests within", id="too few requests"),
        pytest.param(["--histogram", "ZEROS"], 3, "no request ended", id="an idle engine"),
    ],
)
def test_the_exit_status_tells_what_went_wrong(
    cascade: Cascade, trace: Path, tmp_path: Path, words: list[str], status: int, told: str
) -> None:
    contents = {
        "TEXT": "no JSON",
        "JSON": "{}",
        "FEW": "".join(f"{i},100,10\n" for i in range(50)),
        "ENDLESS": '{"baseMs": 1, "perSequenceMs": 1, "perKvTokenMs": 1, "heterogeneity": 0, '
        '"prefillMsPerToken": 1, "prefillMsPerTokenSquared": 1, "chunkTokens": Infinity}',
        "ZEROS": '{"prompt": [["+Inf", 0]], "output": [["+Inf", 0]], "seconds": 60}',
    }
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    paths = {name: str(tmp_path / name) for name in contents} | {"TRACE": str(trace)}
    said = cascade("plan", "--gpus", 8, *(paths.get(word, word) for word in words))
    assert (said.status, said.out) == (status, "")
    assert told in said.err
    assert "Traceback" not in said.err


def test_more_gpus_than_one_instance_needs(cascade: Cascade, trace: Path) -> None:
    said = cascade("plan", "--trace", trace, "--gpus", 3, "--profile", "h100-70b")
    assert said.status == 2
    assert "--gpus 3 is not one instance of 4 GPUs" in said.err


def test_help_shows_examples_and_statuses(cascade: Cascade) -> None:
    said = cascade("plan", "--help")
    assert said.status == 0
    assert "exit status:" in said.out
    assert "cascade plan --prometheus" in said.out


def test_the_version_is_that_of_the_package(cascade: Cascade) -> None:
    assert cascade("--version").out == "cascade 0.1.0\n"


def test_profiles_are_listed_with_their_sources(cascade: Cascade) -> None:
    said = cascade("profiles")
    assert said.status == 0
    assert "h100-8b" in said.out
    assert "aiconfigurator" in said.out
    assert all(line == line.rstrip() for line in said.out.splitlines())
    whole = json.loads(cascade("profiles", "--json").out)
    assert whole["h200-70b"]["coefficients"]["baseMs"] > 0


def test_a_reader_that_has_seen_enough_is_no_error(trace: Path) -> None:
    code = "import sys; from cascade_cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "plan", "--trace", str(trace), "--gpus", "8", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, told = process.communicate()
    assert told == b""


def test_an_interruption_while_modules_load_is_an_exit_status(
    cascade: Cascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_name: str) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("cascade_cli.main.import_module", interrupted)
    assert cascade("plan", "--gpus", 8).status == 130


def test_more_stages_may_be_allowed_than_can_be_made(cascade: Cascade, trace: Path) -> None:
    words = ("--trace", trace, "--gpus", 4, "--load", 0.7)
    most = answer(cascade, *words, "--max-stages", 10**9)
    assert most["plan"] == answer(cascade, *words)["plan"]


def test_a_full_disk_is_told_in_a_line(trace: Path) -> None:
    code = "import sys; from cascade_cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "plan", "--trace", str(trace), "--gpus", "8"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "cascade: the answer cannot be written: No space left on device\n"
