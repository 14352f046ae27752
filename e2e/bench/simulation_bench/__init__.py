"""Compares policies in the simulator, and writes RESULTS.md.

`experiments` says what is run, `cells` how one run becomes figures, `runner` spreads them over
processes and keeps what is finished, `tables`, `claims` and `page` turn them into the page.
"""
