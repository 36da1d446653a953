"""The codec decoder while it serves: windows of a stream, prompts kept, shapes captured."""
