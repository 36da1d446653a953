"""The decoder's two graphs, flow and vocoder, written from the authors' published weights."""
