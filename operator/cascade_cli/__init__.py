"""The `cascade` command: what would a plan do with this traffic, and what is it worth?

Reads traces, histograms and Prometheus, calls the planner and the simulator, prints tables and
writes reports. Holds no decision of its own.

- Commands: `main` finds `plan_command`, `simulate_command` or `profiles_command`. Options of each
  are in its `..._options`, parsed by `values`; options about the pool, which all share, in `pool`.
- Traffic: `traces` parses, `trace_source` and `tally` count. `histograms` says which metrics tell
  lengths; `histogram_file` and `prometheus` look them up, `observed_histograms` makes traffic of
  them. Every source ends in an `observed.Observed`.
- `cascade plan`: an `answer.Answer`, told by `plan_output` (with `words` and `assumptions`) or
  `plan_json`.
- `cascade simulate`: a `scenario.Scenario` per run, spread over processes by `parallel`, told by
  `simulate_output` and as a page by `report`.
"""
