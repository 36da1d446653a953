"""Writes the decoder's two graphs, flow and vocoder, from the authors' published weights."""
