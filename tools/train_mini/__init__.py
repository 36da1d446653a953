"""Trains the embedded model: text, flite's speech, codec, language model, graphs.

The files follow `chatterbox/families/turbo/spec.py`; nothing else of the server is used.
"""
