"""The report of a simulation: one HTML file that needs nothing but a browser.

`study` holds the runs, `comparison` the figures of each policy beside the strongest length-blind
one, the `*_charts` files the plots, `page` the file itself.
"""
