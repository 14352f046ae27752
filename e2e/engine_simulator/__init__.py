"""An inference engine without a GPU: HTTP, tokens, steps and KV memory as vLLM shows them outside.

Owns the vocabulary, the next-token function, the batch of sequences with its step time, and the
OpenAI-style HTTP server around them. The price of a step comes from the shared engine model. It
must not know of stages, routers or Kubernetes: what it answers depends on the requests alone.
"""
