"""What the /metrics page of an engine says of its state, under vLLM's names."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

_RUNNING: Final = "vllm:num_requests_running"
_WAITING: Final = "vllm:num_requests_waiting"
_PREEMPTIONS: Final = "vllm:num_preemptions_total"
_CACHE: Final = "vllm:cache_config_info"


@dataclass(frozen=True, slots=True)
class EngineState:
    """One look at an engine."""

    running: int
    waiting: int
    preemptions: int
    """Since its start."""
    ranks: int
    """Data-parallel engines behind this address."""
    block_tokens: int | None
    kv_tokens: int | None
    """Size of the KV cache; None if the engine does not tell."""

    @property
    def requests(self) -> int:
        """That it has to do with."""
        return self.running + self.waiting


def read_state(text: str) -> EngineState | None:
    """The state that a page tells; None if it is no page of a vLLM engine."""
    values: defaultdict[str, float] = defaultdict(float)
    ranks: set[str] = set()
    cache: dict[str, str] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                values[sample.name] += sample.value
                if sample.name == _RUNNING:
                    ranks.add(sample.labels.get("engine", ""))
                elif sample.name == _CACHE:
                    cache = dict(sample.labels)
    except ValueError:
        return None
    if not ranks or _WAITING not in values:
        return None
    blocks, block = _number(cache, "num_gpu_blocks"), _number(cache, "block_size")
    whole = _number(cache, "kv_cache_size_tokens")
    return EngineState(
        running=round(values[_RUNNING]),
        waiting=round(values[_WAITING]),
        preemptions=round(values[_PREEMPTIONS]),
        ranks=len(ranks),
        block_tokens=block,
        kv_tokens=whole or (blocks * block if blocks and block else None),
    )


def _number(labels: dict[str, str], name: str) -> int | None:
    try:
        value = int(labels.get(name, ""))
    except ValueError:
        return None
    return value if value > 0 else None
