"""Asking a Prometheus that may be slow, sick, somebody else's or none."""
