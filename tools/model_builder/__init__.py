"""How is a model directory in the hub's layout written? Graphs, sidecars, tokenizer, settings.

Knows nothing of the server beyond `chatterbox/families/turbo/spec.py`, which it obeys.
"""
