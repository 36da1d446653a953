"""Client protocols: a file or folder for each client family, listed in `registry.py`."""
