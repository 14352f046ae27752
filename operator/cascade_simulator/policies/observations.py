"""What a policy has seen of the traffic: lengths of finished requests, as metrics would tell."""

from collections import deque

from cascade_planner.traffic import Traffic, TrafficProblem
from cascade_policy.stage_map import DEFAULT_REMAINING
from cascade_simulator.policies.setup import Setup
from cascade_simulator.policy import Resident


class Observations:
    """Prompt and final lengths of the requests that finished within the longest window."""

    def __init__(self, setup: Setup) -> None:
        self._max_length = setup.max_length
        self._keep_ms = 1000 * max(setup.window_seconds, setup.refine_window_seconds)
        self._seen: deque[tuple[float, int, int]] = deque()  # (time in ms, prompt, final)
        # Until something finishes, what was known before counts as one request.
        known = setup.traffic.output_mean if setup.traffic is not None else DEFAULT_REMAINING
        self._outputs, self._requests = known, 1

    @property
    def mean_output(self) -> float:
        """Mean output of all requests so far, tokens."""
        return self._outputs / self._requests

    def finished(self, sequence: Resident, now_ms: float) -> None:
        """A sequence emitted its last token."""
        self._outputs += sequence.generated
        self._requests += 1
        self._seen.append((now_ms, sequence.request.prompt, sequence.length))
        while self._seen[0][0] < now_ms - self._keep_ms:
            self._seen.popleft()

    def traffic(self, now_ms: float, seconds: float) -> Traffic | TrafficProblem:
        """The traffic of the past `seconds`, or of the run where that is shorter."""
        start = max(0.0, now_ms - 1000 * seconds)
        recent = [(prompt, final) for time, prompt, final in self._seen if time >= start]
        return Traffic.from_lengths(
            [prompt for prompt, _ in recent],
            [final for _, final in recent],
            max(now_ms - start, 1.0) / 1000,
            self._max_length,
        )
