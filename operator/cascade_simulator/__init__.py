"""A cluster of inference engines as discrete events: what would a policy have done to this traffic?

Owns requests in time, instances that batch, prefill in chunks, run out of KV memory and fail, and
the policies that are compared. The policies call the planner and the router's own policy code, so
that a result is about the code that runs in production. No clock, no I/O: time is an event, and
random numbers come in as arguments. numpy only.

To be read in this order:

- What comes in: a `workload`, which `workloads` makes from a trace or distributions, and `options`.
- What runs: `cluster` lets the events of its `agenda` happen to each `instance`, which has a
  `decode_set`, a `prefill_queue`, and a `kv_memory` that may contain a `prefix_cache`; `handover`
  moves a `live_sequence` from one to another.
- Who decides: a `policy`, by what a `fleet` lets it know; `policies` are those that are compared.
- What comes out: `recording` writes it down, `outcome` is all of it, `summary` a few numbers.
- `static_batching` is a world of its own, with engines that batch statically.
"""
