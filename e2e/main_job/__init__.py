"""The main job from end to end: a cluster, the chart, a service, real traffic, a plan, moves.

Owns the story, what it shows while it runs, and its verdict. Everything that it does to the
cluster goes through e2e.cluster and e2e.harness, as scenarios do.
"""
