"""What a router costs: ours beside others, in one run, before the same engine and client."""
