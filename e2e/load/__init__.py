"""Replays a trace at an OpenAI-style endpoint and checks every answer token by token.

Owns the arrival times, the requests made for them, a streaming HTTP client, and the report. What
an answer must be is computed here from the prompt alone with the simulated model's vocabulary and
next-token function: it knows nothing of who answers, or of how many engines take part.
"""
