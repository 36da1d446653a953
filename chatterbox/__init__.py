"""Chatterbox Server: text and a few seconds of a voice in, that voice speaking out."""

__version__ = "0.2.0"
