"""Chatterbox Server: speaks text in a voice cloned from a short recording."""

__version__ = "0.2.0"
