"""Builds published forms of the language model, to prove the compiled form against them."""
