"""The `cascade` command: what would a plan do with this traffic, and what is it worth?

Reads traces, histograms and Prometheus, calls the planner and the simulator, prints tables and
writes reports. Holds no decision of its own.
"""
