"""One engine simulator as a process of its own, without a router."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import ProxyHandler, build_opener


@dataclass(frozen=True)
class LoneEngine:
    """Where it serves."""

    url: str

    def metric(self, name: str) -> float:
        """A number of its /metrics page, which has it once. Raises LookupError."""
        with build_opener(ProxyHandler({})).open(self.url + "/metrics", timeout=20) as answer:
            page = answer.read().decode()
        found = re.search(rf"^{re.escape(name)}{{.*}} (\S+)$", page, re.MULTILINE)
        if found is None:
            raise LookupError(f"{name} is not in the page")
        return float(found[1])

    @property
    def requests(self) -> float:
        """That it runs or that wait."""
        return self.metric("vllm:num_requests_running") + self.metric("vllm:num_requests_waiting")

    @property
    def lag_seconds(self) -> float:
        """By which it fell behind its own schedule, for want of a free core."""
        return self.metric("simulator:lag_seconds_total")


@contextmanager
def lone_engine(*arguments: str, **coefficients: float) -> Iterator[LoneEngine]:
    """An engine of model `demo` with these coefficients, until the end of the block."""
    command = [
        sys.executable, "-m", "e2e.engine_simulator", "--model", "demo", "--port", "0",
        "--coefficients", json.dumps(coefficients), *arguments,
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None, "it is a pipe"
            line = process.stderr.readline()
            yield LoneEngine(f"http://127.0.0.1:{line.rstrip().rsplit(':', 1)[1]}")
        finally:
            process.terminate()
