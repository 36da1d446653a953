"""Each client's protocol: its words in, its answers out."""
