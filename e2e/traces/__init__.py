"""Public traces of LLM traffic, by short name.

Owns the files: see README.md for where they come from, what their columns mean and under which
licences they are. Knows nothing of how a trace is read or replayed.
"""
