"""Conversations of several turns: what it is worth to know whose cache holds their beginning."""
