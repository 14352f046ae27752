"""The policies under comparison: who gets a request, and what moves.

A policy is put together of small parts, one idea a file: a placement rule, the stages it reads,
a review of running sequences, and loops that run now and then. Prices and moves are those of
`cascade_policy`, plans those of `cascade_planner`: the very functions that run in production.
"""
