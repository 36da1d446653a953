"""Voices: decoding of untrusted recordings, storage of voices, and the encoding for the model."""
