"""The one task of a CascadeService: it looks, decides, writes, reports, and sleeps.

A pass reads everything anew and trusts nothing that it remembers, except when Prometheus is to be
asked next and what it said last. It never waits for Prometheus, which is asked beside it.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from cascade_operator import kinds
from cascade_operator.children import Children
from cascade_operator.cluster import ClusterApi, ClusterError, NotLeader
from cascade_operator.course import choose_course
from cascade_operator.decisions import Decision
from cascade_operator.errors import PassError, Retry, Stalled, Waiting
from cascade_operator.health import Vitals
from cascade_operator.lift import choose_lifts
from cascade_operator.mapping import choose_map
from cascade_operator.moves import MovePod, Step, most_moving
from cascade_operator.observation import Observation
from cascade_operator.outcome_review import is_placed
from cascade_operator.planning import Planning
from cascade_operator.plans import PlanRecord, first_plan, fit
from cascade_operator.pod_template import template_hash
from cascade_operator.prometheus import TrafficReader
from cascade_operator.recovery import recovered_plan
from cascade_operator.repairs import Repairs
from cascade_operator.report import Reporter
from cascade_operator.resources import at_version, stage_map_config
from cascade_operator.rollout import Rollout, Verdict
from cascade_operator.settings import Settings
from cascade_operator.shortage import spread
from cascade_operator.spec import Mode, ServiceSpec, parse_spec
from cascade_operator.territory import Territory
from cascade_operator.view import View, read_view
from cascade_operator.witness import Witness
from cascade_operator.writes import Writer
from cascade_policy.stage_map import StageMap

Json = Mapping[str, Any]

log = logging.getLogger(__name__)

_COALESCE_SECONDS: Final = 0.05
"""One change of a Deployment comes as several events. Where a pass takes longer than this and had
nothing to write, the pause is as long as the pass: a thousand pods that start wake all the time."""
_BUSY_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_STALLED_SECONDS: Final = 300.0
_CHILDREN_SECONDS: Final = 300.0
_MOST_WRITES: Final = 32
"""Of a kind in one pass: a changed spec, or a deletion, is not to wait for a thousand of them."""


class ServiceTask:
    """Reconciles one CascadeService until it is gone."""

    def __init__(
        self,
        api: ClusterApi,
        reader: TrafficReader,
        settings: Settings,
        vitals: Vitals,
        namespace: str,
        name: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._settings = settings
        self._vitals = vitals
        self._namespace = namespace
        self._name = name
        self._clock = clock
        self._territory = Territory(api, settings.watch_namespaces)
        self._left_to: str | None = None
        self._children = Children(api)
        self._writer = Writer(api, self._children, settings.images)
        self._repairs = Repairs(api, self._children, settings.images)
        self._witness = Witness(api, namespace)
        self._woken = asyncio.Event()
        url = settings.prometheus.url if settings.prometheus else None
        self._planning = Planning(reader, url, self._woken.set)
        self._reporter = Reporter(api, settings.pod_name)
        self._children_due = 0.0
        self._generation = 0
        self._plan: PlanRecord | None = None
        self._failures = 0
        self._idle_rounds = 0
        self._wrote = 0
        self._took = 0.0

    def wake(self, *, children: bool = False) -> None:
        """Something changed; `children`: among them objects that are not read in every pass."""
        if children:
            self._children_due = 0.0
        self._woken.set()

    async def run(self) -> None:
        """Pass after pass, until the CascadeService is gone."""
        try:
            await self._passes()
        finally:
            self._planning.stop()

    async def _passes(self) -> None:
        while True:
            self._woken.clear()
            pause = await self._guarded_pass()
            if pause is None and not self._woken.is_set():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            backoff = _COALESCE_SECONDS * 2 ** min(self._failures, 7)
            rest = 0.0 if self._wrote else min(self._took, _BUSY_SECONDS)
            await asyncio.sleep(max(backoff, rest))

    async def _guarded_pass(self) -> float | None:
        """One pass; errors become pauses. None when the CascadeService is gone."""
        started = time.monotonic()
        try:
            pause = await self._pass()
            self._failures = 0
        except NotLeader:
            # Renewed late, or lost: in the latter case the process ends in a moment.
            pause = _BUSY_SECONDS
        except Stalled as error:
            pause = _STALLED_SECONDS
            log.warning("%s/%s stalled: %s", self._namespace, self._name, error)
        except Waiting as error:
            pause = error.seconds
            log.info("%s/%s waits: %s", self._namespace, self._name, error)
        except (Retry, ClusterError) as error:
            pause = self._after_failure()
            log.warning("%s/%s failed: %s", self._namespace, self._name, error)
        except Exception:
            pause = self._after_failure()
            log.exception("%s/%s: a pass ended unexpectedly", self._namespace, self._name)
        self._took = time.monotonic() - started
        log.debug("a pass of %s/%s took %.3f s", self._namespace, self._name, self._took)
        self._vitals.count_pass(self._took)
        return pause

    def _after_failure(self) -> float:
        self._failures += 1
        self._vitals.failed_passes += 1
        return float(min(2.0 ** (self._failures - 1), _LONGEST_PAUSE_SECONDS))

    async def _pass(self) -> float | None:
        """Look, decide, write, report. Returns the pause until the next pass is due."""
        resource = await self._api.get(kinds.CASCADE_SERVICE, self._namespace, self._name)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            return None
        if (other := await self._territory.other_operator(self._namespace)) is not None:
            return self._leave_to(other)
        self._left_to = None
        self._wrote = 0
        spec = await self._parse(resource)
        view = await read_view(self._api, spec)
        plan = self._recall(spec, view)
        wanted = fit(plan, spec)
        view = await self._undo(spec, view, wanted)
        view = await self._lift(spec, view, wanted)
        placed = is_placed(plan, view.snapshot, view.stage_map)
        decision = await self._planning.plan(
            spec,
            plan,
            self._clock(),
            placed=placed,
            routers=view.snapshot.running_routers,
        )
        seen = await self._converge(spec, view, decision)
        reported = await self._reporter.report(resource, seen, self._clock())
        if seen.error is not None:
            raise seen.error
        return self._pause(seen, reported)

    def _leave_to(self, other: str) -> float:
        """Write nothing, not even a status, and look again now and then."""
        if other != self._left_to:
            log.info("%s/%s is left to %s", self._namespace, self._name, other)
        self._left_to = other
        return self._settings.resync_seconds

    async def _parse(self, resource: Json) -> ServiceSpec:
        try:
            return parse_spec(resource)
        except PassError as error:
            await self._reporter.report_error(resource, error, self._clock())
            raise

    def _recall(self, spec: ServiceSpec, view: View) -> PlanRecord:
        """The plan in force: from the cluster, what this task knew, or what instances tell."""
        now = self._clock()
        plan = view.plan or self._plan or recovered_plan(view.snapshot, now)
        return (plan or first_plan(spec, now)).as_of(now)

    async def _undo(self, spec: ServiceSpec, view: View, plan: PlanRecord) -> View:
        """Bring back stage Deployments that others edited, so that no instance of an edit starts,
        and tell of what others did, before its traces are wiped out."""
        try:
            repairs = await self._repairs.undo(spec, view)
        except Stalled:
            # A template that cannot be used is told with all that is seen, at the end of the pass.
            repairs = ()
        now = self._clock()
        told = await self._witness.look(view.snapshot, plan.counts, repairs, now)
        await self._reporter.tell(spec, (*told, *self._children.told()), now)
        self._wrote += len(repairs)
        return await read_view(self._api, spec) if repairs else view

    async def _lift(self, spec: ServiceSpec, view: View, plan: PlanRecord) -> View:
        """Turn placeholders into instances, up to the declared number."""
        counts = _targets(spec, plan, view)
        chosen = choose_lifts(view.snapshot, counts, spec.instances, self._clock())
        chosen = chosen[:_MOST_WRITES]
        if not chosen:
            return view
        self._wrote += await self._writer.lift(spec, chosen, view.stage_map)
        return await read_view(self._api, spec)

    async def _converge(self, spec: ServiceSpec, view: View, decision: Decision) -> Observation:
        """Bring children, stage map, stages and labels towards the plan."""
        plan = self._plan = decision.plan
        stage_map: StageMap | None = view.stage_map
        step, rollout, error = Step(), Rollout(Verdict.READY), None
        try:
            await self._ensure_children(spec, plan)
            stage_map = await self._publish(spec, view, plan)
            step, rollout = await self._move(spec, view, plan, stage_map)
            self._wrote += await self._writer.mark(
                spec, view.snapshot.pods, stage_map, at_most=_MOST_WRITES
            )
        except PassError as caught:
            error = caught
        return Observation(
            spec=spec,
            snapshot=view.snapshot,
            plan=plan,
            shown=decision.shown,
            stage_map=stage_map,
            decision=decision.finding,
            metrics=self._planning.metrics,
            step=step,
            rollout=rollout,
            event=decision.event,
            record=decision.record,
            error=error,
        )

    async def _ensure_children(self, spec: ServiceSpec, plan: PlanRecord) -> None:
        """What does not change with moves is compared now and then, not in every pass."""
        now = self._clock()
        early = 0 < self._children_due - now <= _CHILDREN_SECONDS
        if early and spec.generation == self._generation:
            return
        self._children_due, due = now + _CHILDREN_SECONDS, self._children_due
        try:
            await self._children.ensure_static(spec, len(plan.stages), secrets.token_hex(32))
        except (PassError, ClusterError):
            self._children_due = due
            raise
        self._generation = spec.generation

    async def _publish(self, spec: ServiceSpec, view: View, plan: PlanRecord) -> StageMap:
        """Write down the plan, and the stage map as far as its stages can serve."""
        stage_map = choose_map(spec, plan, view.snapshot, view.stage_map)
        child = stage_map_config(spec, plan, stage_map)
        if view.config is not None:
            child = at_version(child, view.config["metadata"]["resourceVersion"])
        await self._children.ensure(spec, child, view.config)
        return stage_map

    async def _move(
        self, spec: ServiceSpec, view: View, plan: PlanRecord, stage_map: StageMap
    ) -> tuple[Step, Rollout]:
        """Either moves or a template's rollout, never both."""
        step, rollout = choose_course(
            view.snapshot,
            _targets(spec, plan, view),
            template_hash(spec, self._settings.images),
            mapped_stages=len(stage_map.stages),
            max_moving=most_moving(spec.instances),
            paused=spec.planning.mode is Mode.PAUSED,
        )
        if rollout.verdict is Verdict.APPLY and rollout.stage is not None:
            self._wrote += await self._writer.apply_template(spec, rollout.stage)
        elif rollout.verdict is not Verdict.WAIT:
            writes = step.writes[:_MOST_WRITES]
            self._witness.expect(writes)
            self._wrote += await self._writer.perform(spec, writes, stage_map)
            self._vitals.pods_moved += sum(isinstance(write, MovePod) for write in writes)
        return step, rollout

    def _pause(self, seen: Observation, reported: bool) -> float:
        """Settled: until the next resync or plan. Busy: events wake, and now and then we look."""
        if self._wrote or not reported:
            self._idle_rounds = 0
        elif not seen.settled:
            self._idle_rounds += 1
        busy = not seen.settled or not reported or self._wrote
        pause = self._settings.resync_seconds
        if busy:
            pause = min(pause, _BUSY_SECONDS * 2 ** min(self._idle_rounds, 6))
        return min(pause, self._planning.due_in(self._clock()))


def _targets(spec: ServiceSpec, plan: PlanRecord, view: View) -> tuple[int, ...]:
    """Instances per stage: the plan's, unless not all of them can run and moves are allowed."""
    paused = spec.planning.mode is Mode.PAUSED
    return plan.counts if paused else spread(plan.counts, view.snapshot)
