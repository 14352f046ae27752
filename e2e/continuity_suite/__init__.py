"""Judges whether a router leaves streams whole: its answers against those of the engine alone."""
