"""Load from outside: what a client of the server measures. Imports nothing of the server."""
