"""Compiles codec decoders: cuts the graph in two, turns noise and phase into inputs."""
