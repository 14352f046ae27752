"""When Prometheus is asked and planned from, and what was last found."""

import asyncio
from dataclasses import replace

from cascade_operator.decide import Decision, decide, keep
from cascade_operator.observation import Finding
from cascade_operator.plans import PlanRecord
from cascade_operator.prometheus import PrometheusError, TrafficReader
from cascade_operator.reasons import Reason
from cascade_operator.spec import ServiceSpec
from cascade_operator.status import timestamp
from cascade_operator.traffic import NOT_ASKED_YET, metrics_finding, traffic_of


class Planning:
    """The planning rhythm of one CascadeService. Times are unix seconds."""

    def __init__(self, reader: TrafficReader, default_url: str | None) -> None:
        self._reader = reader
        self._default_url = default_url
        self._due = 0.0
        self._generation = 0
        self._decision: Decision | None = None
        self.metrics: Finding = NOT_ASKED_YET

    def due_in(self, now: float) -> float:
        """Seconds until the next plan is due."""
        return max(0.0, self._due - now)

    async def plan(self, spec: ServiceSpec, plan: PlanRecord, now: float) -> Decision:
        """The decision about `plan`: a new one when it is due, else the last."""
        if now < self._due and spec.generation == self._generation:
            return self._last(plan)
        self._due = now + spec.planning.interval_seconds
        self._generation = spec.generation
        self._decision = await self._ask(spec, plan, now)
        return self._decision

    def _last(self, plan: PlanRecord) -> Decision:
        if self._decision is not None and self._decision.plan == plan:
            return replace(self._decision, event=None)
        return keep(plan, self.metrics)

    async def _ask(self, spec: ServiceSpec, plan: PlanRecord, now: float) -> Decision:
        url = spec.prometheus_url or self._default_url
        if url is None:
            self.metrics = Finding(
                False,
                Reason.PROMETHEUS_NOT_CONFIGURED,
                "neither spec.prometheus.url nor the operator names a Prometheus",
            )
            return keep(plan, self.metrics)
        try:
            reading = await self._reader.read(
                url, spec.namespace, spec.name, spec.planning.window_seconds
            )
        except PrometheusError as error:
            self.metrics = Finding(
                False, Reason.PROMETHEUS_UNREACHABLE, _with_age(str(error), plan)
            )
            return keep(plan, self.metrics)
        traffic = traffic_of(reading, spec)
        self.metrics = metrics_finding(traffic)
        if not self.metrics.holds:
            self.metrics = replace(self.metrics, message=_with_age(self.metrics.message, plan))
        try:
            # The solver takes milliseconds for small pools, but grows with their square.
            return await asyncio.to_thread(decide, plan, traffic, spec, now)
        except (ValueError, ArithmeticError) as error:
            return replace(
                keep(plan, self.metrics),
                finding=Finding(False, Reason.PLANNING_FAILED, f"the planner failed: {error}"),
            )


def _with_age(message: str, plan: PlanRecord) -> str:
    """Names the time of the plan that stays; an age in seconds would change with every pass."""
    if plan.traffic is None:
        return message
    return f"{message}; the plan in force was made at {timestamp(plan.time)}"
