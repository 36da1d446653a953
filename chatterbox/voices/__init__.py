"""Untrusted audio in, encoded voices out: files on disk, an LRU in memory."""
