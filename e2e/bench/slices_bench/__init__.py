"""Slice-level scheduling against its rivals on static batching engines: tables and a verdict."""
