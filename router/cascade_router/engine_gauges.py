"""What an engine says of its memory on its own metrics page: read by name, never by place.

Names change between versions, so each has its older forms; what is missing stays unknown.
"""

import re
from dataclasses import dataclass
from typing import Final

from cascade_policy.book_state import Gauges

_USE: Final = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
_PREEMPTIONS: Final = ("vllm:num_preemptions_total", "vllm:num_preemptions")
_CONFIG: Final = "vllm:cache_config_info"
_SAMPLE: Final = re.compile(
    rb"^(" + b"|".join(name.encode() for name in (*_USE, *_PREEMPTIONS, _CONFIG))
    + rb")(?:\{([^\n]*)\})?[ \t]+([^\s]+)",
    re.MULTILINE,
)  # fmt: skip
_LABEL: Final = re.compile(rb'(\w+)="([^"\\]*)"')


@dataclass(frozen=True, slots=True)
class _Config:
    blocks: int
    block_tokens: int
    caching: bool


def read_gauges(page: bytes) -> Gauges | None:
    """The gauges on a metrics page; None where it does not tell the use of the KV cache."""
    use: float | None = None
    preemptions = 0.0
    config = _Config(0, 0, True)
    for name, labels, value in _SAMPLE.findall(page):
        text = name.decode()
        if text == _CONFIG:
            config = _config(dict(_LABEL.findall(labels)))
        elif text in _USE:
            use = max(use or 0.0, _number(value))
        else:
            preemptions += _number(value)
    if use is None:
        return None
    return Gauges(
        blocks=config.blocks,
        block_tokens=config.block_tokens,
        caching=config.caching,
        use=min(1.0, max(0.0, use)),
        preemptions=int(preemptions),
    )


def _config(labels: dict[bytes, bytes]) -> _Config:
    return _Config(
        blocks=_whole(labels.get(b"num_gpu_blocks", b"")),
        block_tokens=_whole(labels.get(b"block_size", b"")),
        caching=labels.get(b"enable_prefix_caching", b"True") == b"True",
    )


def _whole(text: bytes) -> int:
    return int(text) if text.isdigit() else 0


def _number(text: bytes) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 <= value < float("inf") else 0.0
