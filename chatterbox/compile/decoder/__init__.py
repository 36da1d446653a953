"""Compiles the codec decoder's graph: cut in two, noise and phase made inputs, faster operators."""
