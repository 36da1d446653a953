"""What is spoken over WebSockets: one file for each protocol, and what they share."""
