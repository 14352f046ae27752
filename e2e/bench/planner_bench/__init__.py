"""How long the planner takes from histograms to a plan, and how good the plan is."""
