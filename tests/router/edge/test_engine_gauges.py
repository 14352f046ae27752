"""What is read of an engine's metrics page."""

import pytest

from cascade_policy.book_state import Gauges
from cascade_router.engine_gauges import read_gauges

PAGE = b"""# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{engine="0",model_name="m"} 3.0
vllm:num_preemptions_created{engine="0",model_name="m"} 1.7e+09
vllm:cache_config_info{block_size="16",cache_dtype="auto",enable_prefix_caching="True",engine="0",num_gpu_blocks="1000"} 1.0
"""  # noqa: E501


def test_the_gauges_of_a_page_are_read_by_name() -> None:
    assert read_gauges(PAGE) == Gauges(1000, 16, True, 0.25, 3)


@pytest.mark.parametrize(
    ("old", "new", "gauges"),
    [
        pytest.param(
            b"kv_cache_usage_perc{", b"gpu_cache_usage_perc{", Gauges(1000, 16, True, 0.25, 3),
            id="the older name of the usage",
        ),
        pytest.param(
            b'enable_prefix_caching="True"', b'enable_prefix_caching="False"',
            Gauges(1000, 16, False, 0.25, 3), id="no prefix cache",
        ),
        pytest.param(
            b'num_gpu_blocks="1000"', b'num_gpu_blocks="None"', Gauges(0, 16, True, 0.25, 3),
            id="blocks that are not known",
        ),
        pytest.param(
            b"} 0.25", b"} NaN", Gauges(1000, 16, True, 0.0, 3), id="a usage that is no number"
        ),
        pytest.param(b"vllm:", b"sglang:", None, id="an engine with other names"),
    ],
)  # fmt: skip
def test_other_pages_are_read_as_far_as_they_tell(
    old: bytes, new: bytes, gauges: Gauges | None
) -> None:
    assert old in PAGE
    assert read_gauges(PAGE.replace(old, new)) == gauges


def test_engines_of_one_page_count_together_and_the_fullest_one_tells_the_use() -> None:
    second = PAGE.replace(b'engine="0"', b'engine="1"').replace(b"0.25", b"0.75")
    gauges = read_gauges(PAGE + second)
    assert gauges is not None
    assert (gauges.use, gauges.preemptions) == (0.75, 6)
