"""How vLLM is started on a CPU, as a choice of `e2e.local_service`."""

from dataclasses import dataclass
from typing import Final

from e2e.local_service.engines import EngineStart
from e2e.vllm_engine.installation import Installation

START_SECONDS: Final = 420.0
"""One alone is up in three quarters of a minute, four at once on two cores in two and a half."""
STOP_SECONDS: Final = 20.0
"""Killed at once, it leaves its shared memory behind."""
_NICE: Final = ("nice", "-n", "10")
_ENVIRONMENT: Final = {
    "PYTHONPATH": "",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


@dataclass(frozen=True)
class VllmEngine:
    """The tiny model on the CPU. Two engines that are started alike answer alike."""

    installation: Installation
    start_seconds: float = START_SECONDS
    stop_seconds: float = STOP_SECONDS

    def start(self, model: str, max_length: int, port: int) -> EngineStart:
        """`vllm serve` with what the suite asks for: tools, and cached tokens in the usage."""
        options = [
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--served-model-name", model, "--max-model-len", str(max_length)),
            *("--dtype", "float32", "--max-num-seqs", "32", "--enforce-eager"),
            *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
            *("--enable-prompt-tokens-details", "--disable-uvicorn-access-log"),
        ]
        program = [str(self.installation.python), "-m", "vllm.entrypoints.cli.main", "serve"]
        return EngineStart(
            [*_NICE, *program, str(self.installation.model), *options], _ENVIRONMENT
        )  # fmt: skip
