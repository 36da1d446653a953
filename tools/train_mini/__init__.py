"""Trains the embedded model: text, flite's speech, codec, language model, graphs.

Knows nothing of the server; what it writes follows `chatterbox/families/turbo/spec.py`.
"""
