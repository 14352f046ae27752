"""Plans from a file of histograms: JSON, or the text of a /metrics page."""

import json
from pathlib import Path
from typing import Any

import pytest

from cascade_cli.histogram_file import read_histograms
from tests.cli.command import Cascade, runner

Counts = list[tuple[float | str, int]]
PROMPTS: Counts = [(100, 50), (1000, 250), ("+Inf", 300)]
OUTPUTS: Counts = [(50, 100), (500, 300), ("+Inf", 300)]
FINALS: Counts = [(200, 50), (2000, 300), ("+Inf", 300)]


@pytest.fixture
def cascade(capsys: pytest.CaptureFixture[str]) -> Cascade:
    return runner(capsys)


def buckets(metric: str, counts: Counts, labels: str) -> str:
    lines = [f'{metric}_bucket{{le="{bound}",{labels}}} {count}' for bound, count in counts]
    return "\n".join([f"# TYPE {metric} histogram", *lines, ""])


def vllm(model: str = "tiny", engine: int = 0) -> str:
    """A page of vLLM, without what is of no use here."""
    labels = f'engine="{engine}",model_name="{model}"'
    return "\n".join(
        [
            buckets("vllm:request_prompt_tokens", PROMPTS, labels)
            + f"vllm:request_prompt_tokens_sum{{{labels}}} 60000",
            buckets("vllm:request_generation_tokens", OUTPUTS, labels)
            + f"vllm:request_generation_tokens_sum{{{labels}}} 30000",
            "# TYPE vllm:prefix_cache_hits_total counter",
            f"vllm:prefix_cache_hits_total{{{labels}}} 30000",
            "# TYPE vllm:prefix_cache_queries_total counter",
            f"vllm:prefix_cache_queries_total{{{labels}}} 60000",
            "",
        ]
    )


def ours(service: str = "chat") -> str:
    labels = f'namespace="team",service="{service}"'
    decoded = [
        f'cascade_decode_tokens_total{{le_length="{bound}",{labels}}} 20000'
        for bound in (200, 2000)
    ]
    return "\n".join(
        [
            buckets("cascade_request_prompt_tokens", PROMPTS, labels)
            + buckets("cascade_request_final_tokens", FINALS, labels),
            "# TYPE cascade_decode_tokens_total counter",
            *decoded,
            "",
        ]
    )


def answer(cascade: Cascade, path: Path, *words: object) -> dict[str, Any]:
    said = cascade("plan", "--json", "--histogram", path, "--gpus", 4, *words)
    assert said.status == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


def test_a_page_of_vllm_is_enough_for_a_plan(cascade: Cascade, tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    path.write_text(vllm())
    found = answer(cascade, path, "--seconds", 100)
    assert found["source"]["origin"] == "vLLM, tiny"
    assert found["traffic"]["requestsPerSecond"] == pytest.approx(3)
    assert found["traffic"]["promptTokens"]["mean"] == pytest.approx(200)
    assert found["traffic"]["outputTokens"]["mean"] == pytest.approx(100)
    assert 50 < found["traffic"]["outputTokens"]["p50"] < 100
    assert found["pool"]["maxLength"] == 2048
    assert [one["dependence"] for one in found["sensitivity"]["outlooks"]] == [
        "Independent",
        "Comonotone",
        "Countermonotone",
    ]
    assert "Two histograms do not say" in found["sensitivity"]["sentence"]
    assert found["notes"][0].startswith("50 % of the prompt tokens came from prefix caches")
    assert found["notes"][1].startswith("17 % of the prompts are longer than 1,000 tokens; they")
    assert len(found["notes"]) == 2


def test_pages_of_several_engines_add_up(cascade: Cascade, tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    path.write_text(vllm() + vllm() + vllm(engine=1))
    found = answer(cascade, path, "--seconds", 100)
    assert found["traffic"]["requestsPerSecond"] == pytest.approx(9)


def test_our_own_metrics_are_preferred_and_leave_nothing_open(
    cascade: Cascade, tmp_path: Path
) -> None:
    path = tmp_path / "metrics"
    path.write_text(vllm() + ours())
    found = answer(cascade, path, "--seconds", 100)
    assert found["source"]["origin"] == "Cascade routers, team/chat"
    assert found["sensitivity"] is None
    assert found["notes"] == []
    assert found["traffic"]["outputTokens"]["mean"] == pytest.approx(40_000 / 300)


def test_json_with_final_or_output_lengths_is_enough_for_a_plan(
    cascade: Cascade, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"prompt": PROMPTS, "output": OUTPUTS, "seconds": 100}))
    assert answer(cascade, path)["sensitivity"] is not None
    path.write_text(json.dumps({"prompt": PROMPTS, "final": FINALS, "seconds": 100}))
    found = answer(cascade, path)
    assert found["sensitivity"] is None
    assert found["source"]["seconds"] == 100
    assert answer(cascade, path, "--seconds", 50)["traffic"]["requestsPerSecond"] == pytest.approx(
        6
    )


def test_without_a_time_the_rate_must_be_given(cascade: Cascade, tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    path.write_text(vllm())
    said = cascade("plan", "--histogram", path, "--gpus", 4)
    assert said.status == 2
    assert "--rate or --load or --seconds" in said.err
    assert answer(cascade, path, "--rate", 5)["traffic"]["requestsPerSecond"] == pytest.approx(5)


def test_of_several_models_one_must_be_named(cascade: Cascade, tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    path.write_text(vllm("large") + vllm("small"))
    said = cascade("plan", "--histogram", path, "--gpus", 4, "--seconds", 100)
    assert said.status == 2
    assert "name one with --model: large, small" in said.err
    said = cascade("plan", "--histogram", path, "--gpus", 4, "--seconds", 100, "--model", "tiny")
    assert said.status == 2
    assert "has no 'tiny': name one with --model: large, small" in said.err
    found = answer(cascade, path, "--seconds", 100, "--model", "small")
    assert found["source"]["origin"] == "vLLM, small"


def test_a_service_is_named_with_or_without_its_namespace(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    path.write_text(ours("chat") + ours("code"))
    assert read_histograms(str(path), "chat").origin == "Cascade routers, team/chat"
    assert read_histograms(str(path), "team/code").origin == "Cascade routers, team/code"


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        pytest.param("", 3, "has neither cascade_request_prompt_tokens nor vllm:", id="empty"),
        pytest.param("up 1\n", 3, "has neither", id="another page"),
        pytest.param("hello there\n", 2, "is no page of metrics", id="prose"),
        pytest.param("{", 2, "expected {", id="half an object"),
        pytest.param('{"prompt": 5}', 2, "expected {", id="a number for buckets"),
        pytest.param('{"prompt": [[1, 2]]}', 2, "not all that is needed", id="prompts alone"),
        pytest.param('{"output": [[1, 2]]}', 2, "not all that is needed", id="outputs alone"),
        pytest.param('{"prompt": [[1]], "output": [[1, 2]]}', 2, "expected {", id="half a bucket"),
        pytest.param(
            '{"prompt": [[1, 2]], "output": [[1, 2]], "seconds": "x"}',
            2,
            "expected {",
            id="seconds",
        ),
        pytest.param(
            '{"prompt": [["x", 2]], "output": [[1, 2]], "seconds": 5}',
            2,
            "not a length",
            id="bound",
        ),
        pytest.param(
            '{"prompt": [[1, -2]], "output": [[1, 2]], "seconds": 5}', 2, "the rate of", id="count"
        ),
        pytest.param(
            '{"prompt": [], "output": [], "seconds": 5}', 3, "no series of prompt", id="no buckets"
        ),
        pytest.param(
            '{"prompt": [[1, 2]], "output": [[1, 2]], "seconds": -5}', 2, "above 0", id="no time"
        ),
        pytest.param(vllm().replace("50", "fifty"), 2, "is no page of metrics", id="words"),
    ],
)
def test_what_is_no_histogram_is_refused_with_what_to_do(
    cascade: Cascade, tmp_path: Path, text: str, status: int, words: str
) -> None:
    path = tmp_path / "mine"
    path.write_text(text)
    said = cascade("plan", "--histogram", path, "--gpus", 4, "--rate", 1)
    assert (said.status, said.out) == (status, "")
    assert words in said.err
    assert str(path) in said.err


def test_a_missing_file_and_a_picture_are_named(cascade: Cascade, tmp_path: Path) -> None:
    said = cascade("plan", "--histogram", tmp_path / "absent", "--gpus", 4)
    assert said.status == 2
    assert f"histogram {tmp_path / 'absent'} cannot be read" in said.err
    (tmp_path / "picture").write_bytes(b"\x89PNG\r\n\x1a\n")
    said = cascade("plan", "--histogram", tmp_path / "picture", "--gpus", 4)
    assert said.status == 2
    assert "is no text in UTF-8" in said.err
