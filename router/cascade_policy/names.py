"""The names that the operator, the router and their users agree on: one place, no logic."""

from typing import Final

DOMAIN: Final = "cascadeservice.dev"
GROUP: Final = DOMAIN
VERSION: Final = "v1alpha1"
KIND: Final = "CascadeService"
PLURAL: Final = "cascadeservices"

# Labels on pods, Deployments, Services and EndpointSlices.
LABEL_SERVICE: Final = f"{DOMAIN}/service"
LABEL_SERVICE_UID: Final = f"{DOMAIN}/service-uid"
LABEL_STAGE: Final = f"{DOMAIN}/stage"
# On pods only: set when the scheduling gate is lifted, so that /scale never counts placeholders.
LABEL_PLACED: Final = f"{DOMAIN}/placed"
LABEL_LENGTH_RANGE: Final = "llm-d.ai/context-length-range"
LABEL_POD_TEMPLATE_HASH: Final = "pod-template-hash"
LABEL_APP_NAME: Final = "app.kubernetes.io/name"
LABEL_APP_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_APP_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_APP_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "cascade-operator"

ANNOTATION_TEMPLATE_HASH: Final = f"{DOMAIN}/template-hash"
ANNOTATION_PLAN: Final = f"{DOMAIN}/plan"

GATE_PLACEMENT: Final = f"{DOMAIN}/placement"

FIELD_MANAGER: Final = "cascade-operator"
FIELD_MANAGER_STATUS: Final = "cascade-operator-status"

CONTAINER_ROUTER: Final = "router"
CONTAINER_ENGINE: Final = "engine"
PORT_ROUTER: Final = 8000
PORT_ENGINE: Final = 8001
PORT_NAME: Final = "http"

STAGE_MAP_KEY: Final = "stagemap.json"
HOP_SECRET_KEY: Final = "hop-key"
HOP_SECRET_MOUNT: Final = "/var/run/secrets/cascadeservice.dev/hop"
API_KEYS_MOUNT: Final = "/var/run/secrets/cascadeservice.dev/api-keys"

# Headers. A hop is a request from one sidecar to another; it carries a signature.
HEADER_HOP: Final = "x-cascade-hop"
HEADER_STAGE: Final = "x-cascade-stage"
HEADER_INSTANCE: Final = "x-cascade-instance"
HEADER_HANDOVERS: Final = "x-cascade-handovers"
HEADER_PINNED: Final = "x-cascade-pinned"

# What the kubelet asks the router before it stops an engine, and the header that tells it apart
# from everybody else; its value is the uid of the service.
LEAVE_PATH: Final = "/_cascade/wait-drained"
HEADER_LEAVES: Final = "x-cascade-pod-leaves"

# Environment of the router container.
ENV_NAMESPACE: Final = "CASCADE_NAMESPACE"
ENV_SERVICE: Final = "CASCADE_SERVICE"
ENV_SERVICE_UID: Final = "CASCADE_SERVICE_UID"
ENV_POD_NAME: Final = "CASCADE_POD_NAME"
ENV_POD_IP: Final = "CASCADE_POD_IP"
ENV_STAGE_MAP: Final = "CASCADE_STAGE_MAP"
ENV_HOP_SECRET_FILE: Final = "CASCADE_HOP_SECRET_FILE"
ENV_ENGINE_URL: Final = "CASCADE_ENGINE_URL"
ENV_LISTEN: Final = "CASCADE_LISTEN"
ENV_API_KEYS_DIR: Final = "CASCADE_API_KEYS_DIR"
ENV_ACCESS_LOG: Final = "CASCADE_ACCESS_LOG"
ENV_OTLP_ENDPOINT: Final = "CASCADE_OTLP_ENDPOINT"
ENV_TRACE_RATIO: Final = "CASCADE_TRACE_RATIO"
ENV_DRAIN_SECONDS: Final = "CASCADE_DRAIN_SECONDS"
ENV_MAX_WAITING: Final = "CASCADE_MAX_WAITING"
ENV_MAX_WAIT_SECONDS: Final = "CASCADE_MAX_WAIT_SECONDS"
ENV_MAX_BODY_BYTES: Final = "CASCADE_MAX_BODY_BYTES"

# Metrics of the router. All carry the labels `namespace` and `service`, set by the router itself.
METRIC_PROMPT_TOKENS: Final = "cascade_request_prompt_tokens"
METRIC_FINAL_TOKENS: Final = "cascade_request_final_tokens"
METRIC_DECODE_TOKENS: Final = "cascade_decode_tokens_total"
METRIC_TTFT_SECONDS: Final = "cascade_time_to_first_token_seconds"
METRIC_TPOT_SECONDS: Final = "cascade_time_per_output_token_seconds"
METRIC_E2E_SECONDS: Final = "cascade_request_seconds"
METRIC_HANDOVERS: Final = "cascade_handovers_total"
METRIC_HANDOVER_GAP_SECONDS: Final = "cascade_handover_gap_seconds"
METRIC_PINS: Final = "cascade_pinned_requests_total"
METRIC_REQUESTS: Final = "cascade_requests_total"
METRIC_IN_FLIGHT: Final = "cascade_requests_in_flight"
METRIC_OUT_OF_STAGE: Final = "cascade_out_of_stage_dispatches_total"
METRIC_RESCUES: Final = "cascade_rescues_total"
METRIC_WAITING: Final = "cascade_requests_waiting"
METRIC_WAIT_SECONDS: Final = "cascade_wait_seconds"
METRIC_TURNED_AWAY: Final = "cascade_turned_away_total"
METRIC_PREFILL_TOKENS: Final = "cascade_prefill_tokens_total"
METRIC_PREFILL_SECONDS: Final = "cascade_prefill_work_seconds_total"
METRIC_PREFILL_SECONDS_SQUARED: Final = "cascade_prefill_work_seconds_squared_total"
METRIC_CACHED_TOKENS: Final = "cascade_prompt_cached_tokens_total"
METRIC_ESTIMATE_ERROR: Final = "cascade_prompt_estimate_error_ratio"
METRIC_OBJECTIVES: Final = "cascade_objective_requests_total"
METRIC_LEGS: Final = "cascade_engine_requests_total"
METRIC_STEP_MOMENTS: Final = "cascade_step_moments_total"
METRIC_OFFERS: Final = "cascade_offers_total"
METRIC_EVICTIONS: Final = "cascade_evictions_total"
METRIC_LINES_DROPPED: Final = "cascade_access_log_dropped_total"
METRIC_UNAUTHORIZED: Final = "cascade_unauthorized_requests_total"
METRIC_REFUSALS: Final = "cascade_dispatch_refusals_total"


def stage_name(service: str, index: int) -> str:
    """Name of the Deployment and of the headless Service of stage `index` of `service`."""
    return f"{service}-stage-{index}"


def stage_map_name(service: str) -> str:
    """Name of the ConfigMap that holds the stage map of `service`."""
    return f"{service}-stagemap"


def hop_secret_name(service: str) -> str:
    """Name of the Secret with the key by which the sidecars of `service` trust each other."""
    return f"{service}-hop"


def sidecar_account_name(service: str) -> str:
    """Name of the ServiceAccount, Role and RoleBinding of the pods of `service`."""
    return f"{service}-instance"
