"""The shell around the planner: kopf, the API server and Prometheus.

Owns what a CascadeService becomes in a cluster: its children, the moves of warm pods between
stages, conditions and events. Knows nothing of requests and tokens in flight: those belong to the
router. Decisions are pure functions of frozen records (`spec`, `snapshot`, `plans`, `lift`,
`marks`, `moves`, `rollout`, `decide`, `conditions`, `status`, `resources`); the shell (`cluster`,
`children`, `service_task`, `watch`, `prometheus`, `elector`) reads before and writes after.
"""
