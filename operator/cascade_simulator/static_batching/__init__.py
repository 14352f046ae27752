"""Slice-level scheduling (SCLS, arXiv 2406.13511) and its rivals on engines that batch statically.

An engine of this world serves a batch as one block: prompts padded to the longest, no request
joins or leaves before the batch returns. Sequence-level scheduling (SLS) waits for the longest
answer, iteration-level scheduling (ILS) batches continuously with few sequences for fear of
running out of memory, and slice-level scheduling returns a batch after a slice of tokens and
batches the unfinished requests anew. Times in ms, lengths in tokens.
"""
