"""Everything that runs the whole system: clusters, the simulated engine, the demo and its load.

Knows the system from outside only: HTTP, Kubernetes objects and the shared policy package.
"""
