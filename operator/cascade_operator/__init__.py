"""The shell around the planner: kopf, the API server and Prometheus.

Owns what a CascadeService becomes in a cluster (children, moves of warm pods, conditions). Knows
nothing of requests and tokens in flight: those belong to the router.
"""
