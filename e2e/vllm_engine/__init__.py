"""A real engine in the loop: vLLM on the CPU, with a tiny model, alone and behind our routers."""
