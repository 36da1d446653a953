"""Sockets in, requests out: routes per dialect, guards, metrics."""
