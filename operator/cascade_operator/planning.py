"""When Prometheus is asked and planned from, and what was last found."""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from cascade_operator.adaptation import adapted
from cascade_operator.decide import decide, keep, paused
from cascade_operator.decisions import Decision
from cascade_operator.faults import PrometheusError
from cascade_operator.finding import Finding
from cascade_operator.outcome_review import followed
from cascade_operator.plans import PlanRecord, fit
from cascade_operator.prometheus import TrafficReader
from cascade_operator.proposals import approved, tidy, with_unknown_approval
from cascade_operator.readings import Question, Readings
from cascade_operator.reasons import Reason
from cascade_operator.spec import Mode, ServiceSpec
from cascade_operator.steady import Steady
from cascade_operator.times import timestamp
from cascade_operator.traffic import (
    NOT_ASKED_YET,
    Latency,
    Reading,
    metrics_finding,
    traffic_of,
)
from cascade_planner.traffic import Traffic, TrafficProblem

log = logging.getLogger(__name__)

_NOT_CONFIGURED = Finding(
    False,
    Reason.PROMETHEUS_NOT_CONFIGURED,
    "neither spec.prometheus.url nor the operator names a Prometheus",
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What Prometheus told of one window."""

    traffic: Traffic | TrafficProblem
    latency: Latency | None


class Planning:
    """The planning rhythm of one CascadeService. Times are unix seconds.

    Prometheus is asked in the background; `wake` is called when it has answered.
    """

    def __init__(
        self, reader: TrafficReader, default_url: str | None, wake: Callable[[], None]
    ) -> None:
        self._readings = Readings(reader, wake)
        self._default_url = default_url
        self._due = 0.0
        self._question: Question | None = None
        self._steady = Steady()
        self._decision: Decision | None = None
        self._newest: tuple[Traffic, Latency | None] | None = None
        self._served: tuple[object, ...] | None = None
        self._changed = -math.inf
        self.metrics: Finding = NOT_ASKED_YET

    def due_in(self, now: float) -> float:
        """Seconds until Prometheus is to be asked; infinite while its answer is awaited."""
        return math.inf if self._readings.asking else max(0.0, self._due - now)

    def stop(self) -> None:
        """Give up what is being asked."""
        self._readings.stop()

    async def plan(
        self,
        spec: ServiceSpec,
        plan: PlanRecord,
        now: float,
        *,
        placed: bool = False,
        routers: frozenset[str] = frozenset(),
    ) -> Decision:
        """The decision about `plan`: a new one when Prometheus has answered, the user has approved
        a proposal or the spec has no place for it any more; else the last.

        `placed` says whether every instance serves where the plan wants it; `routers` are the pods
        whose router runs at present.
        """
        steady = len(self._steady.see(routers, now))
        fitted = fit(plan, spec)
        decision = await self._plan(spec, fitted, now, placed=placed, steady=steady)
        if fitted is not plan:
            # Remembered, because the status of this pass may be refused.
            self._decision = decision = adapted(decision, plan, now)
        return decision

    async def _plan(
        self, spec: ServiceSpec, plan: PlanRecord, now: float, *, placed: bool, steady: int
    ) -> Decision:
        plan = followed(tidy(plan, spec), placed, spec, now)
        self._watch(spec, now)
        answer = self._listen(spec, now)
        heard = None if answer is None else self._understand(spec, plan, answer, steady, now)
        if spec.planning.mode is Mode.PAUSED:
            return paused(plan)
        if answer is not None:
            self._newest = None
        if heard is not None and isinstance(heard.traffic, Traffic):
            self._newest = (heard.traffic, heard.latency)
        decision = approved(plan, spec, now, self._newest)
        if decision is None and answer is not None:
            decision = await self._decide(spec, plan, heard, now, placed=placed)
        if decision is None:
            decision = self._last(spec, plan, now)
        else:
            self._decision = decision
        return with_unknown_approval(decision, spec)

    def _watch(self, spec: ServiceSpec, now: float) -> None:
        """Notice since when the service is as it is. What was before a restart is not known."""
        if self._served not in (None, spec.as_served):
            self._changed = now
        self._served = spec.as_served

    def _listen(self, spec: ServiceSpec, now: float) -> Reading | PrometheusError | None:
        """The answer that came since the last pass; asks anew when it is time."""
        url = spec.prometheus_url or self._default_url
        if url is None:
            self._readings.stop()
            self._question, self._decision = None, None
            self._due, self.metrics = math.inf, _NOT_CONFIGURED
            return None
        question = Question(
            url, spec.namespace, spec.name, spec.planning.window_seconds, spec.generation
        )
        answer = self._readings.take(question)
        if question != self._question:
            self._decision = self._newest = None
        waits = 0 < self._due - now <= spec.planning.interval_seconds
        if not waits or question != self._question:
            self._due, self._question = now + spec.planning.interval_seconds, question
            self._readings.ask(question)
        return answer

    def _understand(
        self,
        spec: ServiceSpec,
        plan: PlanRecord,
        answer: Reading | PrometheusError,
        routers: int,
        now: float,
    ) -> Heard | None:
        """The traffic of the answer, if it is one, and what is to be said of the metrics.

        Times that requests took under another spec are left out.
        """
        if isinstance(answer, PrometheusError):
            message = _with_age(str(answer), plan)
            self.metrics = Finding(False, answer.reason, message)
            return None
        traffic = traffic_of(answer, spec, routers)
        self.metrics = metrics_finding(traffic)
        if not self.metrics.holds:
            self.metrics = replace(self.metrics, message=_with_age(self.metrics.message, plan))
        ours = not 0 <= now - self._changed < spec.planning.window_seconds
        return Heard(traffic, answer.latency if ours else None)

    async def _decide(
        self, spec: ServiceSpec, plan: PlanRecord, heard: Heard | None, now: float, *, placed: bool
    ) -> Decision:
        if heard is None:
            return keep(plan, self.metrics, spec, now)
        try:
            # The solver takes milliseconds for small pools, but grows with their square.
            return await asyncio.to_thread(
                decide, plan, heard.traffic, spec, now, heard.latency, placed=placed
            )
        except (ValueError, ArithmeticError) as error:
            # No traffic and no spec that is let in is known to lead here: it would be a defect.
            log.exception("%s/%s: the planner failed", spec.namespace, spec.name)
            text = f"the planner failed, which is a defect; the last plan stays: {error}"
            failed = Finding(False, Reason.PLAN_KEPT, text)
            return replace(keep(plan, failed, spec, now), finding=failed)

    def _last(self, spec: ServiceSpec, plan: PlanRecord, now: float) -> Decision:
        last = self._decision
        if last is None or replace(last.plan, trial=None) != replace(plan, trial=None):
            return keep(plan, self.metrics, spec, now)
        shown = plan if last.shown == last.plan else last.shown
        return replace(last, plan=plan, shown=shown, event=None)


def _with_age(message: str, plan: PlanRecord) -> str:
    """Names the time of the plan that stays; an age in seconds would change with every pass."""
    if plan.traffic is None:
        return message
    return f"{message}; the plan in force was made at {timestamp(plan.time)}"
