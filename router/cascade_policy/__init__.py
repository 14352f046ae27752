"""Decisions about requests and instances, shared by the router, the planner and the simulators.

Owns the engine model (what a step costs), the stage map (the wire contract between operator and
router), the names both sides agree on, and the rules that place and move sequences. Knows nothing
of sockets, Kubernetes, clocks or random numbers: callers pass those in as values. Standard library
only, because it rides in every sidecar.
"""
