"""Benchmark of a running server over HTTP. Imports nothing of the server."""
