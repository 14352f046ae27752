"""Paths by which whoever reaches an engine can administer it: here they only write it down.

vLLM serves them in development mode, with runtime LoRA updates, or always. A router must let none
of them through; `GET /simulator/administration` tells what has come (with --allow-faults).
"""

from typing import Any, Final

from e2e.engine_simulator import sse
from e2e.engine_simulator.http_connection import HttpConnection, HttpRequest

_DONE: Final[dict[str, Any]] = {}

PATHS: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("POST", "/v1/load_lora_adapter"): _DONE,
    ("POST", "/v1/unload_lora_adapter"): _DONE,
    ("POST", "/pause"): {"status": "paused"},
    ("POST", "/resume"): {"status": "resumed"},
    ("GET", "/is_paused"): {"is_paused": False},
    ("POST", "/abort_requests"): {"status": "aborted", "aborted": 0},
    ("POST", "/inference/v1/abort_requests"): {"status": "aborted", "aborted": 0},
    ("POST", "/inference/v1/generate"): _DONE,
    ("POST", "/sleep"): _DONE,
    ("POST", "/wake_up"): _DONE,
    ("GET", "/is_sleeping"): {"is_sleeping": False},
    ("POST", "/release_kv_cache_memory"): _DONE,
    ("POST", "/collective_rpc"): {"results": []},
    ("POST", "/reset_prefix_cache"): _DONE,
    ("POST", "/reset_mm_cache"): _DONE,
    ("POST", "/reset_encoder_cache"): _DONE,
    ("POST", "/scale_elastic_ep"): {"message": "Scaled"},
    ("POST", "/is_scaling_elastic_ep"): {"is_scaling_elastic_ep": False},
    ("GET", "/server_info"): {"vllm_config": "", "vllm_env": {}},
    ("GET", "/load"): {"server_load": 0},
    ("POST", "/update_weights"): {"message": "Weights updated"},
    ("POST", "/start_profile"): _DONE,
    ("POST", "/stop_profile"): _DONE,
}
"""(method, path) and what it answers."""


class Administration:
    """The calls that came."""

    def __init__(self) -> None:
        self._calls: list[str] = []

    def call(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Write one down and answer it."""
        self._calls.append(f"{request.method} {request.path}")
        connection.send_json(sse.json_bytes(PATHS[request.method, request.path]))

    def show(self, connection: HttpConnection, _: HttpRequest) -> None:
        """Tell what has come."""
        connection.send_json(sse.json_bytes({"calls": self._calls}))
