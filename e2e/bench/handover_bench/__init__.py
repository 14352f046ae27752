"""What a client sees of a hand-over: the gap between two of its tokens."""
