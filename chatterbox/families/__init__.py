"""Families of models: their files, prompts, tokens, codecs and voices, and how they are opened."""
