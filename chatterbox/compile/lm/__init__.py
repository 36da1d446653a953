"""Compiles a language model: rewrites its graph to update key-value slots in place."""
