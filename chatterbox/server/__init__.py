"""The HTTP server: process, limits, keys, native calls, metrics and the page."""
