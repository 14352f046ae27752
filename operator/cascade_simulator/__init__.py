"""A cluster of inference engines as discrete events: what would a policy have done to this traffic?

Owns requests in time, instances that batch, prefill in chunks, run out of KV memory and fail, and
the policies that are compared. The policies call the planner and the router's own policy code, so
that a result is about the code that runs in production. No clock, no I/O: time is an event, and
random numbers come in as arguments. numpy only.
"""
