"""The channel between two sidecars: all requests of one front to one target over one connection.

An engine ends a step with one token for every sequence that it runs. Over a channel the events of
one step go to each front in one write, and are there in one read; one connection for each stream
would cost a system call for every token on both sides.
"""
