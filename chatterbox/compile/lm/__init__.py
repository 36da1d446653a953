"""The language model's graph, rewritten around key/value slots in place."""
