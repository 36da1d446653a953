"""Benchmark of a running server over HTTP. Does not import the server."""
