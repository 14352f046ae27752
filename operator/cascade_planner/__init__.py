"""Lengths and an engine model in, a plan out.

Owns traffic (rates per length bucket from histograms), the cost of a stage, the dynamic programme
over boundaries and instance counts, and the decision whether a new plan is worth its moves. Knows
nothing of Kubernetes, Prometheus, clocks or randomness. numpy only.
"""
