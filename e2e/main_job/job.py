"""The story of the demo, from a cluster to a verdict."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from e2e import cluster as clusters
from e2e.harness.deadline import DeadlinePassed
from e2e.harness.kubectl import JsonObject, Kubectl
from e2e.harness.load import LoadOptions, replay
from e2e.harness.platform import Platform
from e2e.harness.podwatch import PodWatch
from e2e.harness.service import Service, ServiceView, manifest
from e2e.main_job.options import Options
from e2e.main_job.outcome import Outcome, Phase
from e2e.main_job.summary import summary
from e2e.main_job.view import PhaseView, Reporter

NAMESPACE = "cascade-demo"
NAME = "demo"
RAMP_SECONDS = 10.0
"""Start of each replay whose latency does not count: queues and averages are still filling."""
TRACE_OFFSET = 2600.0
"""Where in the trace each replay begins, in seconds. The planner likes to cut where hardly any
sequence crosses; this is a part of the trace in which about one in thirty does."""
MOVING_SECONDS = 20.0
"""Length of the replay under which the plan is made and pods move."""
PLANNING = {
    "mode": "Advisory",
    "intervalSeconds": 5,
    "windowSeconds": 90,
    "cooldownSeconds": 300,
    "minGainPercent": 2,
}
"""A production service plans each minute over ten; the demo has two minutes in all."""


@dataclass(frozen=True)
class Stand:
    """Where the demo plays: a cluster with the release and one service in it."""

    platform: Platform
    service: Service


def run(options: Options, reporter: Reporter) -> Outcome:
    """Play the demo; what it found. Raises when a step cannot be done at all."""
    stand = prepare(options, reporter)
    before = replay_phase(stand, options, reporter, "one stage")
    with PodWatch(stand.service) as watch:
        moving = replay_phase(
            stand,
            options,
            reporter,
            "moving",
            seconds=MOVING_SECONDS,
            after_ramp=lambda: activate(stand.service, reporter),
        )
        settled = wait_for_plan(stand.service, watch, reporter)
        after = replay_phase(stand, options, reporter, "stages")
    outcome = judge(options, reporter, stand, settled, watch, (before, moving, after))
    reporter.console.print(summary(outcome))
    if options.json_file is not None:
        options.json_file.write_text(json.dumps(outcome.to_json(), indent=2) + "\n")
    return outcome


def prepare(options: Options, reporter: Reporter) -> Stand:
    """Cluster, images, chart, service: everything up to Ready."""
    choice = clusters.choose(None if options.cluster == "auto" else options.cluster)
    reporter.step(f"Cluster: {choice.provider} ({choice.reason})")
    cluster = clusters.up(choice, reporter.say)
    reporter.step("Images from the Dockerfiles, then helm install cascade charts/cascade")
    platform = Platform.prepare(cluster, reporter.say)
    namespace = platform.create_namespace(NAMESPACE)
    return Stand(platform, apply_service(namespace, options, reporter))


def apply_service(kubectl: Kubectl, options: Options, reporter: Reporter) -> Service:
    """A fresh CascadeService in Advisory mode: one stage, plans are made and not applied."""
    service = Service(kubectl, NAME)
    kubectl.delete("cascadeservice", NAME, "--cascade=foreground")
    reporter.step(f"kubectl apply: CascadeService {NAME} with {options.gpus} simulated GPUs")
    kubectl.apply(
        manifest(
            NAME,
            gpuCount=options.gpus,
            planning=PLANNING,
            routing={"boundaries": options.boundaries},
        )
    )
    service.wait_ready(instances=options.gpus)
    reporter.say(kubectl.run("get", "cascadeservice", NAME, "-o", "wide").rstrip())
    return service


def replay_phase(
    stand: Stand,
    options: Options,
    reporter: Reporter,
    name: str,
    *,
    seconds: float | None = None,
    after_ramp: Callable[[], None] = lambda: None,
) -> Phase:
    """Replay a part of the trace at the front Service, shown while it runs.

    `seconds` of measured time follow a ramp, at whose end `after_ramp` is called. Each replay
    begins at the same place of the trace, so that all of them send the same requests.
    """
    load = LoadOptions(
        url=stand.service.url,
        requests_per_second=options.rate,
        duration=RAMP_SECONDS + (options.seconds if seconds is None else seconds),
        offset=TRACE_OFFSET,
        exclude_first=RAMP_SECONDS,
    )
    reporter.step(f"Azure conversation trace at {options.rate:g} requests/s: {name}")
    view = PhaseView(reporter, stand.service, name)
    ramp_over = Once(after_ramp)

    def progress(record: JsonObject) -> None:
        view.progress(record)
        if record.get("elapsed", 0.0) >= RAMP_SECONDS:
            ramp_over()

    with view.shown():
        found = replay(
            stand.service.kubectl,
            f"load-{name.replace(' ', '-')}",
            stand.platform.images.engine_simulator,
            load,
            progress,
        )
    phase = Phase(name, found)
    reporter.say(
        f"{phase.count('requestsCompleted')} of {phase.count('requestsSent')} requests completed, "
        f"{phase.count('handovers')} hand-overs, {phase.count('streamsWrong')} wrong streams"
    )
    return phase


class Once:
    """A call that is made the first time only."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


def activate(service: Service, reporter: Reporter) -> None:
    """Let the operator act on its plans."""
    reporter.step("kubectl patch: planning.mode Active; the operator plans from Prometheus")
    service.patch(planning={"mode": "Active"})


def wait_for_plan(service: Service, watch: PodWatch, reporter: Reporter) -> ServiceView:
    """Wait until pods stand where the plan wants them; the last view when they never do."""
    try:
        view = service.wait_settled(seconds=60)
    except DeadlinePassed as passed:
        reporter.say(str(passed))
        view = service.view()
    stages = "|".join(str(stage["instances"]) for stage in view.plan_stages)
    reporter.say(f"stages {stages}, {watch.moves} warm pods moved")
    reporter.say(service.kubectl.run("get", "cascadeservice", service.name, "-o", "wide").rstrip())
    return view


def judge(
    options: Options,
    reporter: Reporter,
    stand: Stand,
    settled: ServiceView,
    watch: PodWatch,
    phases: Sequence[Phase],
) -> Outcome:
    """Put together what was seen."""
    before, moving, after = phases
    problems = []
    if not settled.settled:
        problems.append("the pods never stood where the plan wants them")
    if watch.broken:
        problems.append("the watch on the pods broke, so restarts may have gone unseen")
    if watch.most_bound != options.gpus:
        problems.append(f"{watch.most_bound} pods were bound at once for {options.gpus} GPUs")
    return Outcome(
        cluster=stand.platform.cluster.provider,
        boundaries=options.boundaries,
        plan=settled.status.get("plan", {}),
        plan_message=settled.status.get("plan", {}).get("explanation", "no plan was made"),
        pods_moved=watch.moves,
        pods_restarted=len(watch.restarted) + len(watch.lost),
        move_seconds=watch.move_seconds,
        before=before,
        moving=moving,
        after=after,
        minutes=reporter.elapsed / 60,
        load={"requestsPerSecond": options.rate, "seconds": options.seconds},
        problems=problems,
    )
