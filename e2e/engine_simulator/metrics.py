"""The engine's metrics under the names that vLLM gives them, labels `engine` and `model_name`."""

from collections.abc import Mapping

from e2e.engine_simulator.batch import Batch
from e2e.engine_simulator.histogram import Histogram, token_bounds

_TTFT = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_PER_TOKEN = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0,
)  # fmt: skip
_REQUEST = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0,
    240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
_REASONS = ("stop", "length", "abort", "error", "repetition")


class Metrics:
    """Counters of one engine. The engine adds, `render` formats."""

    def __init__(self, model_name: str, max_length: int) -> None:
        self.labels = f'engine="0",model_name="{_escaped(model_name)}"'
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generation_tokens = 0
        self.finished = dict.fromkeys(_REASONS, 0)
        self.lag_seconds = 0.0
        """Time the engine is behind its own schedule because the machine is too slow."""
        tokens = token_bounds(max_length)
        self.request_prompt_tokens = Histogram(tokens)
        self.request_generation_tokens = Histogram(tokens)
        self.iteration_tokens = Histogram([1, *(2**power for power in range(3, 15))])
        self.time_to_first_token = Histogram(_TTFT)
        self.inter_token_latency = Histogram(_PER_TOKEN)
        self.time_per_output_token = Histogram(_PER_TOKEN)
        self.e2e_latency = Histogram(_REQUEST)
        self.queue_time = Histogram(_REQUEST)

    def render(self, batch: Batch) -> str:
        """All families in the Prometheus text format."""
        families = [
            *self._gauges(batch),
            *self._counters(batch),
            *self._histograms(),
            self._cache_config(batch),
        ]
        return "\n".join(families) + "\n"

    def _gauges(self, batch: Batch) -> list[str]:
        usage = batch.pool.used / batch.pool.capacity
        values: Mapping[str, float] = {
            "vllm:num_requests_running": len(batch.running),
            "vllm:num_requests_waiting": len(batch.waiting),
            "vllm:kv_cache_usage_perc": usage,
        }
        return [
            f"# TYPE {name} gauge\n{name}{{{self.labels}}} {float(value)!r}"
            for name, value in values.items()
        ]

    def _counters(self, batch: Batch) -> list[str]:
        values: Mapping[str, float] = {
            "vllm:prefix_cache_queries": batch.cache_queries,
            "vllm:prefix_cache_hits": batch.cache_hits,
            "vllm:num_preemptions": batch.preemptions,
            "vllm:prompt_tokens": self.prompt_tokens,
            "vllm:prompt_tokens_cached": self.cached_tokens,
            "vllm:generation_tokens": self.generation_tokens,
            "simulator:lag_seconds": self.lag_seconds,
        }
        families = [
            f"# TYPE {name}_total counter\n{name}_total{{{self.labels}}} {float(value)!r}"
            for name, value in values.items()
        ]
        name = "vllm:request_success_total"
        samples = [
            f'{name}{{{self.labels},finished_reason="{reason}"}} {float(count)!r}'
            for reason, count in self.finished.items()
        ]
        return [*families, "\n".join([f"# TYPE {name} counter", *samples])]

    def _histograms(self) -> list[str]:
        families = {
            "vllm:request_prompt_tokens": self.request_prompt_tokens,
            "vllm:request_generation_tokens": self.request_generation_tokens,
            "vllm:iteration_tokens_total": self.iteration_tokens,
            "vllm:time_to_first_token_seconds": self.time_to_first_token,
            "vllm:inter_token_latency_seconds": self.inter_token_latency,
            "vllm:request_time_per_output_token_seconds": self.time_per_output_token,
            "vllm:e2e_request_latency_seconds": self.e2e_latency,
            "vllm:request_queue_time_seconds": self.queue_time,
        }
        return [
            "\n".join([f"# TYPE {name} histogram", *histogram.lines(name, self.labels)])
            for name, histogram in families.items()
        ]

    def _cache_config(self, batch: Batch) -> str:
        name = "vllm:cache_config_info"
        model = batch.model
        labels = (
            f'block_size="{model.block_tokens}",enable_prefix_caching="{batch.pool.caching}",'
            f'engine="0",kv_cache_size_tokens="{batch.pool.capacity * model.block_tokens}",'
            f'num_gpu_blocks="{batch.pool.capacity}"'
        )
        return f"# TYPE {name} gauge\n{name}{{{labels}}} 1.0"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
