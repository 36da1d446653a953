"""The client protocols: one file or folder a client family, listed in `registry.py`."""
