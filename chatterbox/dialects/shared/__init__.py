"""Code that several dialects use: voice names, socket messages, speech of arriving text."""
