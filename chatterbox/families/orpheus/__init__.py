"""Orpheus: a Llama that says SNAC's tokens."""
