"""Derives the built-in cost model profiles from measured kernel tables; see README.md."""
