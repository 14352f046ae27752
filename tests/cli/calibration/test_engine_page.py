"""The state of an engine, from its /metrics page."""

import pytest

from cascade_cli.calibration.engine_page import EngineState, read_state

PAGE = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{engine="0",model_name="m"} 5.0
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{%s} 1.0
"""
BLOCKS = 'block_size="16",num_gpu_blocks="100"'


@pytest.mark.parametrize(
    ("labels", "block", "kv_tokens"),
    [
        pytest.param(f'{BLOCKS},kv_cache_size_tokens="1504"', 16, 1504, id="the size itself"),
        pytest.param(BLOCKS, 16, 1600, id="blocks and their size"),
        pytest.param('block_size="16",num_gpu_blocks="None"', 16, None, id="no blocks yet"),
        pytest.param('other="1"', None, None, id="another version"),
    ],
)
def test_what_a_page_of_vllm_tells(labels: str, block: int | None, kv_tokens: int | None) -> None:
    state = read_state(PAGE % labels)
    assert state == EngineState(3, 2, 5, 1, block, kv_tokens)
    assert state.requests == 5


def test_data_parallel_engines_are_added_up_and_counted() -> None:
    state = read_state(PAGE % BLOCKS + (PAGE % BLOCKS).replace('engine="0"', 'engine="1"'))
    assert state is not None
    assert (state.running, state.ranks) == (6, 2)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("<html>", id="a web page"),
        pytest.param("up 1\n", id="metrics of something else"),
        pytest.param("vllm:num_requests_running{", id="a page that was cut"),
    ],
)
def test_other_pages_tell_nothing(text: str) -> None:
    assert read_state(text) is None
