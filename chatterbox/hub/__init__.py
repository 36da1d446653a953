"""Which files a model consists of, where they come from, and whether they are whole."""
