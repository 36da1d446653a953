"""The embedded model: a small real one, in the hub's layout."""
