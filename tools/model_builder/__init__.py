"""Writes a model directory in the hub's layout: graphs, sidecars, tokenizer, settings.

The files follow `chatterbox/families/turbo/spec.py`; nothing else of the server is used.
"""
