"""A small service of real processes on this machine: engine simulators, each behind a router."""
