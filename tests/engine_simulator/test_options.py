"""The command line: defaults, and refusals that say what to give instead."""

import pytest

from cascade_policy.profiles import profile
from e2e.engine_simulator.options import InvalidOption, read_options

MODEL = ("--model", "demo")


def test_the_profile_is_the_engine_model_unless_coefficients_differ() -> None:
    assert read_options([*MODEL], {}).engine_model == profile("simulated")
    other = read_options([*MODEL, "--coefficients", '{"baseMs": 3}'], {}).engine_model
    assert other.base_ms == 3
    assert other.chunk_tokens == profile("simulated").chunk_tokens


def test_memory_always_holds_one_sequence_of_the_greatest_length() -> None:
    options = read_options([*MODEL, "--max-length", "1000000"], {})
    assert options.engine_model.kv_capacity_tokens >= 1_000_000


@pytest.mark.parametrize(
    ("arguments", "environment", "seconds"),
    [
        pytest.param([], {}, 5, id="vLLM's default"),
        pytest.param([], {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75"}, 75, id="from the environment"),
        pytest.param(
            ["--timeout-keep-alive", "9"],
            {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75"},
            9,
            id="the option wins",
        ),
    ],
)
def test_keep_alive(arguments: list[str], environment: dict[str, str], seconds: float) -> None:
    assert read_options([*MODEL, *arguments], environment).keep_alive_seconds == seconds


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--profile", "h200"], "use one of", id="an unknown profile"),
        pytest.param(["--coefficients", "{"], "--coefficients", id="broken JSON"),
        pytest.param(["--coefficients", '{"baseMs": -1}'], "above 0", id="a negative time"),
        pytest.param(["--max-length", "1"], "at least 2 tokens", id="no room for a token"),
        pytest.param(["--coalesce-percent", "101"], "0 to 100", id="more than all"),
        pytest.param(["--faults", '{"hang": 3}'], "true or false", id="a wrong fault"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        read_options([*MODEL, *arguments], {})


def test_a_wrong_environment_is_named() -> None:
    with pytest.raises(InvalidOption, match="VLLM_HTTP_TIMEOUT_KEEP_ALIVE must be a number"):
        read_options([*MODEL], {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "long"})
