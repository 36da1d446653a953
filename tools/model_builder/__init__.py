"""Writes a model directory in the hub's layout: graphs, sidecars, tokenizer, settings.

Knows nothing of the server beyond `chatterbox/families/turbo/spec.py`, which it obeys.
"""
