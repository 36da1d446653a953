"""Streaming codec decoders: windows, random inputs, cached prompts, captured shapes."""
