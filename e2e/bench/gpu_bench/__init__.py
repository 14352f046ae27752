"""What uneven lengths cost the attention of a decode step: `e2e/bench/gpu`.

Nothing of the project and nothing but PyTorch and Triton is imported, so that the folder runs in
any image that has an engine.
"""
