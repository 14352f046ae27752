"""Measurements: each command beside this file prints a table and, with `--json FILE`, figures."""
