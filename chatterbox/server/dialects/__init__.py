"""The words of other programs, each dialect a file; `registry.py` has the list of them."""
