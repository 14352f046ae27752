"""Measuring a live engine: what to ask of it, what its streams tell, and the model that fits.

Everything is pure but `engine` and `session`, which do the asking.
"""
