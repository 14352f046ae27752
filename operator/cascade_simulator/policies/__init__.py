"""The policies under comparison: who gets a request, and what moves.

A policy is put together of small parts, one idea a file: a placement rule, the stages it reads,
a review of running sequences, and loops that run now and then. Prices and moves are those of
`cascade_policy`, plans those of `cascade_planner`: the very functions that run in production.

What surrounds them is simpler than a router and an operator:

- One front knows the load of every instance at once, exactly or as old as the run's `stale_ms`.
  There are no questions that go unanswered, no bans, no price that is asked for again, and no
  fresh bid that confirms a move. Prompts are known to the token, and clients set no limit of
  output.
- A review comes after every slice, and after the first token where KV caches are copied. A router
  reviews after a slice, and one token past the end of the stage; with hard boundaries not before
  that.
- A run has the transport that it asks for; routers hand over by recomputing.
- `+prefix` looks into the caches themselves. `+slices` lets a request wait at the front.
- A new plan is in force at once, and an instance that changes stage costs nothing. `cascade`
  refines boundaries every 15 s by the traffic of the last minute; the operator does with each
  reading, by the traffic of its planning window, and not while a plan is on trial.
"""
