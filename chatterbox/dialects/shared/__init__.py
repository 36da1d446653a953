"""What several dialects use: voice names, messages, speech of text that is still arriving."""
