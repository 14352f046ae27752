"""Every reason of a condition, an event or a decision: what it means and what to do about it.

The troubleshooting table is generated from here, so a reason without a remedy cannot exist.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """PascalCase words of the API; once published they keep their meaning."""

    # Ready
    SERVING = "Serving"
    STARTING = "Starting"
    NO_INSTANCE_READY = "NoInstanceReady"
    INVALID_SPEC = "InvalidSpec"
    NAME_TAKEN = "NameTaken"
    REFUSED_BY_CLUSTER = "RefusedByCluster"
    CLUSTER_ERROR = "ClusterError"
    NAMESPACE_TERMINATING = "NamespaceTerminating"
    # Progressing
    SETTLED = "Settled"
    STARTING_INSTANCES = "StartingInstances"
    MOVING_INSTANCES = "MovingInstances"
    REMOVING_INSTANCES = "RemovingInstances"
    ROLLING_OUT = "RollingOut"
    # Degraded
    ALL_INSTANCES_READY = "AllInstancesReady"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CRASHING = "ContainerCrashing"
    CONTAINER_NOT_CREATED = "ContainerNotCreated"
    QUOTA_EXCEEDED = "QuotaExceeded"
    POD_REFUSED = "PodRefused"
    INSTANCES_NOT_READY = "InstancesNotReady"
    # MetricsAvailable
    METRICS_READ = "MetricsRead"
    METRICS_STALE = "MetricsStale"
    METRICS_MISSING = "MetricsMissing"
    PROMETHEUS_UNREACHABLE = "PrometheusUnreachable"
    PROMETHEUS_UNAUTHORIZED = "PrometheusUnauthorized"
    PROMETHEUS_FAILED = "PrometheusFailed"
    PROMETHEUS_NOT_CONFIGURED = "PrometheusNotConfigured"
    METRICS_INCOMPLETE = "MetricsIncomplete"
    METRICS_MALFORMED = "MetricsMalformed"
    NOT_ASKED_YET = "NotAskedYet"
    # PlanApplied
    PLAN_IN_FORCE = "PlanInForce"
    NO_TRAFFIC = "NoTraffic"
    TOO_FEW_REQUESTS = "TooFewRequests"
    PLAN_KEPT = "PlanKept"
    ADVISORY = "Advisory"
    NOT_THE_PROPOSAL = "NotTheProposal"
    PAUSED = "Paused"
    WAITING_FOR_STAGES = "WaitingForStages"
    WAITING_FOR_ROLLOUT = "WaitingForRollout"
    # Decisions
    GAIN_ENOUGH = "GainEnough"
    APPROVED = "Approved"
    LATENCY_WORSE = "LatencyWorse"
    LATENCY_NO_WORSE = "LatencyNoWorse"
    NOTHING_BETTER = "NothingBetter"
    COOLING_DOWN = "CoolingDown"
    CURRENT_OVERLOADED = "CurrentOverloaded"
    INSTANCES_CHANGED = "InstancesChanged"
    MAX_LENGTH_CHANGED = "MaxLengthChanged"
    TOO_MANY_STAGES = "TooManyStages"
    BOUNDARIES_FIXED = "BoundariesFixed"
    TRAFFIC_SHIFTED = "TrafficShifted"
    # RouterReady
    ROUTERS_RUNNING = "RoutersRunning"
    ROUTERS_NOT_RUNNING = "RoutersNotRunning"
    # Events only
    PLAN_ADOPTED = "PlanAdopted"
    BOUNDARIES_CHANGED = "BoundariesChanged"
    PLAN_RETURNED = "PlanReturned"
    INSTANCE_LOST = "InstanceLost"
    INSTANCE_RELABELLED = "InstanceRelabelled"
    INSTANCE_TAKEN_OUT = "InstanceTakenOut"
    STAGE_SCALED = "StageScaled"
    STAGE_RESTARTED = "StageRestarted"
    STAGE_EDITED = "StageEdited"
    STAGE_DELETED = "StageDeleted"
    CHILD_DELETED = "ChildDeleted"
    CHILD_EDITED = "ChildEdited"


@dataclass(frozen=True, slots=True)
class Help:
    """One line of the troubleshooting table."""

    meaning: str
    remedy: str


NOTHING: Final = "Nothing to do."

HELP: Final[dict[Reason, Help]] = {
    Reason.SERVING: Help("At least one instance is ready and routers know their stages.", NOTHING),
    Reason.STARTING: Help(
        "No instance has become ready yet.",
        "Wait for the engines to load the model; the Degraded condition names what is in the way.",
    ),
    Reason.NO_INSTANCE_READY: Help(
        "Instances were ready before, none is now: clients get no answer.",
        "Read the Degraded condition and `kubectl logs POD -c engine`.",
    ),
    Reason.INVALID_SPEC: Help(
        "The spec contradicts itself.", "Change the field that the message names."
    ),
    Reason.NAME_TAKEN: Help(
        "An object with the name of one of the children exists and belongs to something else.",
        "Delete or rename that object, or create the CascadeService under another name. If it "
        "belongs to a CascadeService that was just deleted, it goes by itself.",
    ),
    Reason.REFUSED_BY_CLUSTER: Help(
        "The API server refused a child object.",
        "Read the message: a malformed spec.engine.template, a missing permission of the operator "
        "or an admission rule of the cluster.",
    ),
    Reason.CLUSTER_ERROR: Help(
        "The API server could not be reached or failed.",
        "The operator tries again by itself; pods go on serving meanwhile.",
    ),
    Reason.NAMESPACE_TERMINATING: Help(
        "The namespace is being deleted, and the CascadeService with it.", NOTHING
    ),
    Reason.SETTLED: Help("Everything is where the plan wants it.", NOTHING),
    Reason.STARTING_INSTANCES: Help(
        "Instances were placed and are becoming ready.", "Wait; see Degraded if it takes long."
    ),
    Reason.MOVING_INSTANCES: Help(
        "Running instances change their stage. They keep running.", NOTHING
    ),
    Reason.REMOVING_INSTANCES: Help(
        "Instances beyond the declared number are drained and removed.", NOTHING
    ),
    Reason.ROLLING_OUT: Help(
        "A changed pod template is rolled out, one instance at a time; moves wait.",
        "If it does not advance, look at the newest pod of the stage that the message names.",
    ),
    Reason.ALL_INSTANCES_READY: Help("As many instances are ready as declared.", NOTHING),
    Reason.UNSCHEDULABLE: Help(
        "The scheduler finds no node for an instance.",
        "Add nodes with free GPUs, lower spec.gpuCount, or correct node selector and tolerations "
        "in spec.engine.template.",
    ),
    Reason.IMAGE_PULL_FAILED: Help(
        "A node cannot pull an image.",
        "Check the image's name in spec.engine.image (or the operator's router image), and pull "
        "secrets in spec.engine.template.spec.imagePullSecrets.",
    ),
    Reason.CONTAINER_CRASHING: Help(
        "A container ends again and again.",
        "`kubectl logs POD -c CONTAINER --previous` says why; often the model does not fit the "
        "GPU or an argument of spec.engine.args is wrong.",
    ),
    Reason.CONTAINER_NOT_CREATED: Help(
        "A container cannot be created.",
        "Usually a Secret or ConfigMap that spec.router.auth or spec.engine.template refers to is "
        "missing; the message or `kubectl describe pod` names it.",
    ),
    Reason.QUOTA_EXCEEDED: Help(
        "A resource quota of the namespace forbids further pods. Moves go on; a replacement of a "
        "lost instance may take minutes after the quota was raised.",
        "Raise the quota or lower spec.gpuCount.",
    ),
    Reason.POD_REFUSED: Help(
        "The API server refuses the pods, often by Pod Security or another admission rule.",
        "Read the message; adapt the namespace's policy or spec.engine.template.",
    ),
    Reason.INSTANCES_NOT_READY: Help(
        "Fewer instances are ready than declared.",
        "`kubectl describe pod` of those that are not ready.",
    ),
    Reason.METRICS_READ: Help("Traffic was read from Prometheus.", NOTHING),
    Reason.METRICS_MISSING: Help(
        "Prometheus answers, but has no metrics of this service. The last plan stays.",
        "Check that Prometheus scrapes port 8000 of pods with the label "
        "cascadeservice.dev/service, and that it is the right Prometheus.",
    ),
    Reason.PROMETHEUS_UNREACHABLE: Help(
        "Prometheus does not answer, or its certificate is not trusted. The last plan stays.",
        "Check the address (spec.prometheus.url or the chart's prometheus.url), network rules and "
        "the chart's prometheus.caSecret.",
    ),
    Reason.PROMETHEUS_UNAUTHORIZED: Help(
        "Prometheus wants other credentials, or those of the operator cannot be read. The last "
        "plan stays.",
        "Renew the Secret that the chart's prometheus values name; it is read anew within about a "
        "minute. An address of spec.prometheus.url gets no credentials.",
    ),
    Reason.PROMETHEUS_FAILED: Help(
        "What answers is no Prometheus, redirects, or fails. The last plan stays.",
        "Read the message: it has the status and what it hints at.",
    ),
    Reason.PROMETHEUS_NOT_CONFIGURED: Help(
        "No Prometheus is configured, so nothing is known of the traffic. One stage serves all.",
        "Set the chart's prometheus.url or spec.prometheus.url.",
    ),
    Reason.METRICS_STALE: Help(
        "Prometheus has not scraped the routers for minutes. The last plan stays.",
        "Check Prometheus' targets and its clock.",
    ),
    Reason.METRICS_INCOMPLETE: Help(
        "Prometheus lacks a part of the metrics: it says so, or it scrapes too few routers. The "
        "last plan stays.",
        "Check Prometheus' targets, and the stores behind it.",
    ),
    Reason.METRICS_MALFORMED: Help(
        "The length histograms in Prometheus are not those of the routers. The last plan stays.",
        "See that no recording or relabelling rule drops buckets of cascade_request_*_tokens, and "
        "that every router is scraped once.",
    ),
    Reason.NOT_ASKED_YET: Help("The operator has not asked Prometheus yet.", NOTHING),
    Reason.PLAN_IN_FORCE: Help("Stages, ranges and instances are as planned.", NOTHING),
    Reason.NO_TRAFFIC: Help(
        "No request has been seen: there is nothing to plan from.",
        "Send traffic; until then the partition stays as it is.",
    ),
    Reason.TOO_FEW_REQUESTS: Help(
        "Too few requests ended within spec.planning.windowSeconds to know their lengths.",
        "Wait for traffic or lengthen the window; until then the partition stays as it is.",
    ),
    Reason.PLAN_KEPT: Help(
        "The plan could not be made anew; the last one is in force.",
        "Read the message and the MetricsAvailable condition.",
    ),
    Reason.ADVISORY: Help(
        "spec.planning.mode is Advisory: the plan is shown, not applied.",
        "To apply this one plan, approve it as the message says; to apply all, set "
        "spec.planning.mode to Active.",
    ),
    Reason.NOT_THE_PROPOSAL: Help(
        "The annotation cascadeservice.dev/approve names a plan that is not the proposed one. "
        "Nothing was applied.",
        "Approve the id in status.plan, or remove the annotation.",
    ),
    Reason.PAUSED: Help(
        "spec.planning.mode is Paused: nothing is planned and no instance changes its stage. Lost "
        "instances are replaced, declared counts and templates followed.",
        "Set spec.planning.mode to Active or Advisory to go on.",
    ),
    Reason.WAITING_FOR_STAGES: Help(
        "A stage of the plan has no ready instance yet; routers keep the ranges before.",
        "Wait for the moves; see Degraded if it takes long.",
    ),
    Reason.WAITING_FOR_ROLLOUT: Help(
        "A changed pod template is rolled out first.", "See the Progressing condition."
    ),
    Reason.GAIN_ENOUGH: Help(
        "The new plan is predicted to save at least spec.planning.minGainPercent.", NOTHING
    ),
    Reason.APPROVED: Help("The user approved the proposed plan.", NOTHING),
    Reason.LATENCY_WORSE: Help(
        "With the plan that was given up, requests took clearly longer than the traffic explains.",
        "Nothing to do. If it happens again, the cost model does not fit your engines: see "
        "spec.planning.costModel.",
    ),
    Reason.LATENCY_NO_WORSE: Help(
        "After a plan was adopted, requests were not worse off than before.", NOTHING
    ),
    Reason.NOTHING_BETTER: Help(
        "No other plan is predicted to save spec.planning.minGainPercent after the cost of moving.",
        "Nothing to do; lower minGainPercent if smaller gains are worth moves to you.",
    ),
    Reason.COOLING_DOWN: Help(
        "A better plan is known, but the last change is too recent, or one was returned from.",
        "Wait, or lower spec.planning.cooldownSeconds; after a return, Advisory mode and an "
        "approval apply a plan at once.",
    ),
    Reason.CURRENT_OVERLOADED: Help(
        "A stage of the plan before was predicted to be overloaded; the new plan has none such.",
        "If it comes again and again, raise spec.gpuCount.",
    ),
    Reason.INSTANCES_CHANGED: Help("The declared number of instances changed.", NOTHING),
    Reason.MAX_LENGTH_CHANGED: Help("spec.model.maxLength changed.", NOTHING),
    Reason.TOO_MANY_STAGES: Help(
        "The plan before had more stages than spec.planning.maxStages.", NOTHING
    ),
    Reason.BOUNDARIES_FIXED: Help("spec.planning.boundaries asks for other ranges.", NOTHING),
    Reason.TRAFFIC_SHIFTED: Help(
        "The ranges of the plan moved a step after the lengths of the traffic; no instance moves.",
        NOTHING,
    ),
    Reason.ROUTERS_RUNNING: Help("The router of every placed instance runs.", NOTHING),
    Reason.ROUTERS_NOT_RUNNING: Help(
        "The router of an instance does not run.", "`kubectl logs POD -c router`."
    ),
    Reason.PLAN_ADOPTED: Help("A new plan is being applied.", NOTHING),
    Reason.BOUNDARIES_CHANGED: Help("Ranges changed, instance counts did not.", NOTHING),
    Reason.PLAN_RETURNED: Help(
        "The last plan made requests clearly slower; the plan before is in force again, and the "
        "next change waits longer.",
        "Nothing to do; status.decisions has the figures. See LatencyWorse.",
    ),
    Reason.INSTANCE_LOST: Help(
        "Somebody deleted or evicted instances, or they went with their node. They are replaced.",
        "Nothing to do. To have fewer instances, scale the CascadeService instead.",
    ),
    Reason.INSTANCE_RELABELLED: Help(
        "Somebody changed the stage or service label of an instance. It keeps running and "
        "goes back to where the plan wants it.",
        "Nothing to do. Which instance serves which stage is decided by the plan alone.",
    ),
    Reason.INSTANCE_TAKEN_OUT: Help(
        "Somebody took the label cascadeservice.dev/service-uid from an instance: it serves "
        "nobody any more, keeps its GPUs, and is replaced.",
        "Delete the pod when you are done with it.",
    ),
    Reason.STAGE_SCALED: Help(
        "Somebody scaled the Deployment of a stage; it was scaled back. What they took away ended "
        "at once: a Deployment does not wait for the operator.",
        "Scale the CascadeService (`kubectl scale cascadeservice NAME --replicas=N`), and point "
        "autoscalers at it.",
    ),
    Reason.STAGE_RESTARTED: Help(
        "Somebody restarted the Deployment of a stage: its instances are replaced one after the "
        "other.",
        "Nothing to do. Restart one stage after the other: each of them has an instance down.",
    ),
    Reason.STAGE_EDITED: Help(
        "Somebody edited the Deployment of a stage; the edit was undone. A changed pod template "
        "may have ended an instance at once.",
        "Edit the CascadeService: spec.engine.template is laid over the pod template.",
    ),
    Reason.STAGE_DELETED: Help(
        "Somebody deleted the Deployment of a stage. Its instances run on, and it was created "
        "again.",
        "Nothing to do. To end the service, delete the CascadeService.",
    ),
    Reason.CHILD_DELETED: Help(
        "Somebody deleted an object of the service; it was created again.", NOTHING
    ),
    Reason.CHILD_EDITED: Help(
        "Somebody edited an object of the service; the edit was undone.",
        "Edit the CascadeService instead.",
    ),
}


def troubleshooting_table() -> str:
    """HELP as a Markdown table."""
    rows = [f"| `{reason}` | {text.meaning} | {text.remedy} |" for reason, text in HELP.items()]
    return "\n".join(["| Reason | What it means | What to do |", "|---|---|---|", *rows]) + "\n"
