"""The sidecar in every GPU pod: the only door to the engine.

Owns sockets, the relay of streams, hand-over between engines and the router's metrics. Decisions
come from cascade_policy. Knows nothing of plans being made: it reads the stage map.
"""
