"""Lengths and an engine model in, a plan out.

Owns traffic (rates per length bucket from histograms), the cost of a stage, the dynamic programme
over boundaries and instance counts, and the decision whether a new plan is worth its moves. Knows
nothing of Kubernetes, Prometheus, clocks or randomness. numpy only.

To be read in this order:

- What comes in: `histogram` and `traffic`, with `problems` for what is no traffic, `prefill_work`
  for cached prompts, and `marginals` for what a plain engine tells.
- What stages cost: `stage_cost`, weighed by an `objective`; `pricing` makes it that of a
  `partition`.
- The search: `solver` chooses between `min_plus`, which is exact, `price_search`, which grows with
  the logarithm of the instances (`chains`, `count_table`, `allocation`), and `bundles`.
- What comes out: `plan`, with its `forecast`; `explain` and `sensitivity` put it into sentences.
- The loops: `hysteresis` decides on new plans, `refine` moves boundaries in between.
- The engine model from measured steps: `moments`, `step_regression`, `calibration`.
"""
