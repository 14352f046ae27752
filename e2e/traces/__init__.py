"""Public traces of LLM traffic and their reader.

Owns the files (see README.md for where they come from and under which licences) and what their
columns mean. Knows nothing of how a trace is replayed.
"""
